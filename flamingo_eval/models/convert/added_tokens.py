"""The two tokens that a bridge adds to a language model, and the rows of embedding and head that they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.config import TokenConfig
from flamingo_eval.models.convert.foreign_weights import ForeignTensor
from flamingo_eval.models.convert.hf_tokenizer import cleans_up_spaces
from flamingo_eval.models.convert.tensor_map import PlannedTensor

NewRows = Literal["trained", "frozen"]
END_OF_CHUNK, IMAGE = "<|endofchunk|>", "<image>"
MULTIPLES = (128, 64, 32, 8)  # to which families pad their vocabularies


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Rows of embedding and head: those of the language model, those of new tokens, and padding as its family pads."""

    base: int
    rows: int
    tokens: int  # one more than the highest id

    @classmethod
    def of(cls, base: int, tokens: int) -> Vocabulary:
        """New tokens take unused rows of the model's own padding where there are some; else rows are added."""
        if tokens <= base:
            return cls(base, base, tokens)
        multiple = next((m for m in MULTIPLES if base % m == 0), 1)
        return cls(base, -(-tokens // multiple) * multiple, tokens)

    def head_rows(self, new_rows: NewRows) -> int | None:
        """The id from which on tokens cannot be generated: padding, or all new ones where their rows stay frozen."""
        if self.rows == self.base:
            return None
        first = self.base if new_rows == "frozen" else self.tokens
        return first if first < self.rows else None


def add_tokens(
    fast: FastTokenizer, settings: Mapping[str, Any], new_rows: NewRows, base: int, source: Path
) -> tuple[TokenConfig, Vocabulary]:
    """Add the image tag and the end of chunk, unless they are there.

    Where the new rows stay frozen the end of chunk could never be generated: the model's own end of text is taken.
    Raises CheckpointError.
    """
    end_of_text = settings.get("eos_token")
    end_of_text = end_of_text.get("content") if isinstance(end_of_text, dict) else end_of_text
    if end_of_text is not None and fast.token_to_id(end_of_text) is None:
        raise CheckpointError(f"{source}: the end of text '{end_of_text}' (eos_token) is not in the vocabulary.")
    if new_rows == "frozen" and end_of_text is None:
        raise CheckpointError(
            f"{source}: no eos_token in tokenizer_config.json; it ends demonstrations where new rows are frozen.",
            fix="Name it there, or give --new-rows trained.",
        )
    first_id = 1 + max(fast.get_vocab(with_added_tokens=True).values())
    new_tokens = [IMAGE] if new_rows == "frozen" else [END_OF_CHUNK, IMAGE]
    missing_tokens = [token for token in new_tokens if fast.token_to_id(token) is None]
    fast.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in missing_tokens])
    tokens = 1 + max(fast.get_vocab(with_added_tokens=True).values())
    end_of_chunk = str(end_of_text) if new_rows == "frozen" else END_OF_CHUNK
    stop = tuple(dict.fromkeys(token for token in (end_of_chunk, end_of_text) if token))
    config = TokenConfig(
        image=IMAGE,
        image_is_token=True,
        end_of_chunk=end_of_chunk,
        stop=stop,
        clean_up_spaces=cleans_up_spaces(settings, default=False),
        trained_from=first_id if new_rows == "trained" and missing_tokens else None,
    )
    return config, Vocabulary.of(base, tokens)


def grown(foreign: ForeignTensor, rows: int) -> PlannedTensor:
    """The model's own rows as they are, and their mean in every row after them."""
    shape = (rows, *foreign.shape[1:])
    if rows == foreign.shape[0]:
        return PlannedTensor(shape, foreign.dtype, foreign.read, (foreign,))

    def make() -> Tensor:
        own = foreign.read()
        mean = own.float().mean(dim=0, keepdim=True).to(own.dtype)
        return torch.cat([own, mean.expand(rows - len(own), *mean.shape[1:])])

    return PlannedTensor(shape, foreign.dtype, make, (foreign,))
