"""Tokenizer folders: a tokenizer.json, or the older vocab.json and merges.txt of GPT-2 and OPT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models as tokenizer_models

from flamingo_eval.errors import CheckpointError, Problem, did_you_mean, problems_in
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.tokenizer import read_tokenizer

# Tokenizer classes of transformers that set `clean_up_tokenization_spaces` to False themselves
_KEEP_SPACES = ("Llama", "CodeLlama", "Gemma", "Qwen2", "Bloom", "Cohere", "Code_Llama")


def read_vocabulary(folder: Path, needed: tuple[str, ...]) -> tuple[FastTokenizer, dict[str, Any]]:
    """The tokenizer of a Hugging Face folder and its tokenizer_config.json ({} without one).

    Raises CheckpointError if it cannot be read, or if one of the `needed` tokens is missing.
    """
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    source = folder / "tokenizer.json"
    if source.is_file():
        fast = read_tokenizer(source)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        source = folder / "vocab.json"
        fast = _byte_pairs(folder, settings)
    else:
        raise CheckpointError(
            f"{folder}: no tokenizer.json in it (nor vocab.json with merges.txt).",
            fix="A tokenizer.model alone is not enough: save it once with transformers' fast tokenizer.",
        )
    _begin(fast, settings)
    missing = [token for token in needed if fast.token_to_id(token) is None]
    if missing:
        added = [token.content for token in fast.get_added_tokens_decoder().values()]
        fix = f"Tokens it has: {', '.join(added[-8:])}." if added else ""
        raise problems_in(
            source,
            [
                Problem(f"the special token '{t}' is missing. {did_you_mean(t, added)}".rstrip(), fix=fix)
                for t in missing
            ],
            CheckpointError,
        )
    return fast, settings


def cleans_up_spaces(settings: Mapping[str, Any], default: bool) -> bool:
    """Whether decoded text loses the spaces before punctuation.

    If tokenizer_config.json does not set it, the tokenizer's class does; `default` is for classes without a default of
    their own, which was true until transformers 4.44.
    """
    setting = settings.get("clean_up_tokenization_spaces")
    if setting is not None:
        return setting is not False
    kind = str(settings.get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer")
    return default and kind not in _KEEP_SPACES


def _byte_pairs(folder: Path, settings: dict[str, Any]) -> FastTokenizer:
    """GPT-2's byte-level BPE from its two files, with the added tokens."""
    fast = FastTokenizer(tokenizer_models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space", False)))
    fast.decoder = decoders.ByteLevel()
    added: dict[str, int] = {}
    if (folder / "added_tokens.json").is_file():
        added = read_json(folder / "added_tokens.json")
    special_file = folder / "special_tokens_map.json"
    special = _contents(read_json(special_file)) if special_file.is_file() else []
    in_order = [*special, *sorted(added, key=lambda token: added[token])]
    present = [token for token in in_order if fast.token_to_id(token) is not None]
    new_tokens = [token for token in sorted(added, key=lambda token: added[token]) if token not in present]
    fast.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in [*present, *new_tokens]])
    moved = [token for token, id in added.items() if fast.token_to_id(token) != id]
    if moved:
        raise CheckpointError(
            f"{folder / 'added_tokens.json'}: ids of {', '.join(moved)} do not follow the vocabulary."
        )
    return fast


def _begin(fast: FastTokenizer, settings: dict[str, Any]) -> None:
    """Put the begin token before every text if the settings say so and tokenizer.json does not do it."""
    token = settings.get("bos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if not settings.get("add_bos_token") or fast.encode("").ids or not token:
        return
    fast.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, fast.token_to_id(token))]
    )


def _contents(special: dict[str, Any]) -> list[str]:
    flat = [v for value in special.values() for v in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(v["content"] if isinstance(v, dict) else str(v) for v in flat))
