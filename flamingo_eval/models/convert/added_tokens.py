"""The two tokens that a bridge adds to a language model, and their rows of embedding and head."""

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
MULTIPLES = (128, 64, 32, 8)  # families pad their vocabularies to a multiple of this


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Rows of embedding and head: the language model's, those of new tokens, and the padding usual in its family."""

    base: int
    rows: int
    tokens: int  # one more than the highest id

    @classmethod
    def of(cls, base: int, tokens: int) -> Vocabulary:
        """New tokens use the rows that pad the model's vocabulary, if there are enough; otherwise rows are added."""
        if tokens <= base:
            return cls(base, base, tokens)
        multiple = next((m for m in MULTIPLES if base % m == 0), 1)
        return cls(base, -(-tokens // multiple) * multiple, tokens)

    def head_rows(self, new_rows: NewRows) -> int | None:
        """The first id that cannot be generated: of padding, or of the new tokens if their rows stay frozen."""
        if self.rows == self.base:
            return None
        first = self.base if new_rows == "frozen" else self.tokens
        return first if first < self.rows else None


def add_tokens(
    fast: FastTokenizer, settings: Mapping[str, Any], new_rows: NewRows, base: int, source: Path
) -> tuple[TokenConfig, Vocabulary]:
    """Add the image tag and the end of chunk, unless the tokenizer has them.

    If the new rows stay frozen, the end of chunk could never be generated, so the model's own end of text is used.
    Raises CheckpointError.
    """
    end_of_text = settings.get("eos_token")
    end_of_text = end_of_text.get("content") if isinstance(end_of_text, dict) else end_of_text
    if end_of_text is not None and fast.token_to_id(end_of_text) is None:
        raise CheckpointError(f"{source}: the end of text '{end_of_text}' (eos_token) is not in the vocabulary.")
    if new_rows == "frozen" and end_of_text is None:
        raise CheckpointError(
            f"{source}: no eos_token in tokenizer_config.json; with frozen new rows, it ends demonstrations.",
            fix="Set it there, or give --new-rows trained.",
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
    """The model's own rows, unchanged; every row after them is their mean."""
    shape = (rows, *foreign.shape[1:])
    if rows == foreign.shape[0]:
        return PlannedTensor(shape, foreign.dtype, foreign.read, (foreign,))

    def make() -> Tensor:
        own = foreign.read()
        mean = own.float().mean(dim=0, keepdim=True).to(own.dtype)
        return torch.cat([own, mean.expand(rows - len(own), *mean.shape[1:])])

    return PlannedTensor(shape, foreign.dtype, make, (foreign,))
