"""OpenFlamingo checkpoints (mlfoundations/open_flamingo) -> our checkpoint folder.

Its checkpoint.pt holds only what was trained: the Resampler, the gated blocks, and every tensor with "embed" in its
name. The frozen language model and vision tower come from their own folders. Sizes that the weights do not show are
constants in its code: 8 heads of 64 in Resampler and gated blocks, feed-forward of 4 times the width, exact GELU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flamingo_eval.errors import CheckpointError, Problem
from flamingo_eval.models.config import DecoderConfig, FlamingoConfig, ResamplerConfig
from flamingo_eval.models.convert.card import model_card
from flamingo_eval.models.convert.clip import Tower, read_tower
from flamingo_eval.models.convert.foreign_weights import (
    ForeignTensor,
    Weights,
    close_files,
    file_weights,
    renamed,
    without_prefix,
)
from flamingo_eval.models.convert.hf_tokenizer import cleans_up_spaces, read_vocabulary
from flamingo_eval.models.convert.language_models import Family, language_names, read_language_model
from flamingo_eval.models.convert.tensor_map import PlannedTensor, Table, TensorMap, expected_shapes
from flamingo_eval.models.convert.writer import check_out, new_folder, write_checkpoint
from flamingo_eval.models.presets import OPENFLAMINGO_RESAMPLER, OPENFLAMINGO_TOKENS, OPENFLAMINGO_XATTN

GATED: Table = {
    "{i}.attention_gate": "{i}.attn_gate",
    "{i}.ff_gate": "{i}.ff_gate",
    "{i}.norm": "{i}.attn.norm",
    "{i}.attention.queries": "{i}.attn.to_q",
    "{i}.attention.keys_values": "{i}.attn.to_kv",
    "{i}.attention.out": "{i}.attn.to_out",
    "{i}.norm_ff": "{i}.ff.0",
    "{i}.ff.up": "{i}.ff.1",
    "{i}.ff.down": "{i}.ff.3",
}
PERCEIVER: Table = {
    "latents": "latents",
    "time": "frame_embs",
    "layers.{i}.attention.norm_features": "layers.{i}.0.norm_media",
    "layers.{i}.attention.norm_latents": "layers.{i}.0.norm_latents",
    "layers.{i}.attention.queries": "layers.{i}.0.to_q",
    "layers.{i}.attention.keys_values": "layers.{i}.0.to_kv",
    "layers.{i}.attention.out": "layers.{i}.0.to_out",
    "layers.{i}.norm_ff": "layers.{i}.1.0",
    "layers.{i}.ff.up": "layers.{i}.1.1",
    "layers.{i}.ff.down": "layers.{i}.1.3",
    "norm": "norm",
}
# Second names under which OpenFlamingo registers the same modules.
_TWICE = ("lang_encoder.old_decoder_blocks.", "lang_encoder.gated_cross_attn_layers.")
_GATED_NAME = re.compile(r"^lang_encoder\..*?\.(\d+)\.gated_cross_attn_layer\.(.+)$")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a checkpoint.pt, each under its own names."""

    perceiver: dict[str, ForeignTensor]
    gated: dict[str, ForeignTensor]  # `<block>.<name>`
    language: dict[str, ForeignTensor]  # under the names of the language model's family
    others: dict[str, ForeignTensor]


def convert_openflamingo(
    checkpoint: Path,
    language_model: Path,
    vision: Path,
    tokenizer: Path,
    cross_attention_every: int,
    out: Path,
    vision_config: str | None = None,
) -> tuple[str, ...]:
    """Write a checkpoint folder to `out`; returns notes for the user, which are also in its README.md.

    Raises CheckpointError (all problems at once, each with its file) and UsageError (`out` exists or cannot be
    written).
    """
    check_out(out)
    tower = read_tower(vision, vision_config)
    family, decoder, base, language_notes = read_language_model(language_model)
    parts = split(file_weights(checkpoint), family, str(checkpoint))
    fast, settings = read_vocabulary(tokenizer, (OPENFLAMINGO_TOKENS.end_of_chunk, OPENFLAMINGO_TOKENS.image))
    tokens = replace(OPENFLAMINGO_TOKENS, clean_up_spaces=cleans_up_spaces(settings, default=True))

    file = next((foreign.file for foreign in base.values()), language_model)
    language = Language(family, decoder, {**base, **parts.language}, frozenset(parts.language), file)
    n_tokens = fast.get_vocab_size(with_added_tokens=True)
    vocabulary = language.vocabulary(n_tokens)
    if n_tokens > vocabulary:
        raise CheckpointError(
            f"{tokenizer}: {n_tokens} tokens, but the checkpoint's embeddings have {vocabulary} rows."
        )
    config = FlamingoConfig(
        name=out.resolve().name,
        vision=tower.config,
        preprocess=tower.preprocess,
        resampler=_resampler(checkpoint, parts.perceiver, tower),
        xattn=replace(OPENFLAMINGO_XATTN, every=cross_attention_every, ff_width=4 * decoder.width),
        decoder=replace(decoder, vocabulary=vocabulary, head_rows=language.head_rows(vocabulary)),
        tokens=tokens,
    )
    _check_blocks(checkpoint, config, parts.gated)
    tensor_map = TensorMap(expected_shapes(config))
    tensor_map.add("vision.", tower.table, tower.weights, vision.name)
    tensor_map.add("resampler.", PERCEIVER, parts.perceiver, f"{checkpoint.name}, perceiver")
    tensor_map.add("xattn.", GATED, parts.gated, checkpoint.name)
    notes = tower.notes + language_notes + language.add(tensor_map, config.decoder, language_model.name)
    tensor_map.leftover(parts.others, (), checkpoint.name)
    plans = tensor_map.finish(str(checkpoint))
    sources = {"checkpoint": checkpoint, "language model": language_model, "vision": vision, "tokenizer": tokenizer}
    card = model_card(config, "OpenFlamingo", family.title, sources, notes)
    with new_folder(out) as folder:
        write_checkpoint(folder, config, plans, fast.to_str(), card)
    close_files()
    return notes


def split(weights: Weights, family: Family, source: str) -> Parts:
    """OpenFlamingo's tensors by the part they belong to; `source` is the file's name in messages.

    Raises CheckpointError if they are not from OpenFlamingo.
    """

    def rename(name: str) -> str | None:
        # The frozen tower, saved by early versions, is the same as --vision
        return None if name.startswith((*_TWICE, "vision_encoder.")) else name

    weights = renamed(weights, rename)
    gated = {".".join(m.groups()): w for name, w in weights.items() if (m := _GATED_NAME.match(name))}
    others = {n: w for n, w in weights.items() if not n.startswith(("perceiver.", "lang_encoder."))}
    if not gated and not any(name.startswith("perceiver.") for name in weights):
        first_names = ", ".join(list(weights)[:3])
        raise CheckpointError(
            f"{source}: not an OpenFlamingo checkpoint: it has neither perceiver.* nor gated_cross_attn_layer tensors.",
            fix=f"Its tensors begin with: {first_names}.",
        )
    trained = {n: w for n, w in without_prefix(weights, "lang_encoder.").items() if "gated_cross_attn_layer." not in n}
    language = language_names(family, renamed(trained, lambda name: name.replace(".decoder_layer.", ".")))
    return Parts(without_prefix(weights, "perceiver."), gated, language, others)


def _resampler(checkpoint: Path, perceiver: Weights, tower: Tower) -> ResamplerConfig:
    """Sizes of the Resampler, as far as the weights show them."""
    if "latents" not in perceiver:
        raise CheckpointError(f"{checkpoint}: the tensor perceiver.latents is missing.")
    latents, width = perceiver["latents"].shape
    if width != tower.config.width:
        raise CheckpointError(
            f"{checkpoint}: perceiver.latents has shape {[latents, width]}, expected {[latents, tower.config.width]} "
            "for features of the given vision tower.",
            fix="Is this the tower that it was trained with? OpenFlamingo's published models use ViT-L-14 (1024).",
        )
    layers = {name.split(".")[1] for name in perceiver if name.startswith("layers.")}
    return replace(
        OPENFLAMINGO_RESAMPLER,
        width=width,
        ff_width=4 * width,
        layers=len(layers),
        latents=latents,
        frames=perceiver["frame_embs"].shape[0] if "frame_embs" in perceiver else 0,
    )


def _check_blocks(checkpoint: Path, config: FlamingoConfig, gated: Weights) -> None:
    """Raise CheckpointError unless the gated blocks are where --cross-attention-every puts them."""
    blocks = sorted({int(name.split(".")[0]) for name in gated})
    if blocks == list(config.xattn_blocks):
        return
    layers, n = config.decoder.layers, config.xattn.every
    intervals = [k for k in range(1, layers + 1) if blocks == list(range(k - 1, layers, k))]
    fix = (
        f"Give --cross-attention-every {intervals[0]}."
        if intervals
        else "Is this the language model of the checkpoint?"
    )
    raise CheckpointError(
        f"{checkpoint}: gated blocks before the language model's blocks {blocks} (of {layers}), but "
        f"--cross-attention-every {n} puts them before {list(config.xattn_blocks)}.",
        fix=fix,
    )


@dataclass(frozen=True, slots=True)
class Language:
    """The language model's tensors: those of its folder, replaced by those of the checkpoint.

    OpenFlamingo resizes the vocabulary to its tokenizer's: it grows by the new tokens, or shrinks if the model's own
    was padded. It saves the resized embeddings, and the head if it is tied or has "embed" in its name; the new rows of
    other heads (LLaMA, GPT-J) were never saved and are random at every load there.
    """

    family: Family
    decoder: DecoderConfig
    weights: Mapping[str, ForeignTensor]
    trained: frozenset[str]
    file: Path  # of the frozen weights

    @property
    def _embedding(self) -> str:
        return f"{self.family.embedding}.weight"

    @property
    def _head(self) -> str:
        return f"{self.family.head}.weight"

    def vocabulary(self, tokenizer_size: int) -> int:
        """Rows of the embeddings: the checkpoint's, or as many as the tokenizer has tokens."""
        return self.weights[self._embedding].shape[0] if self._embedding in self.trained else tokenizer_size

    def head_rows(self, vocabulary: int) -> int | None:
        """Number of saved rows of an untied head, if fewer than the vocabulary."""
        if self.decoder.tied_head or self._head in self.trained or self._head not in self.weights:
            return None
        n_rows = self.weights[self._head].shape[0]
        return n_rows if n_rows < vocabulary else None

    def add(self, tensor_map: TensorMap, config: DecoderConfig, source: str) -> tuple[str, ...]:
        """Plan the whole decoder; returns notes for the user."""
        weights = dict(self.weights)
        notes: list[str] = []
        saved_embedding = weights.get(self._embedding)
        for ours, name in (("embedding.weight", self._embedding), *self._head_names(config)):
            foreign = weights.pop(name, None)
            if foreign is None:
                tensor_map.missing(name, source, self.file)
                continue
            unset = config.vocabulary - foreign.shape[0]
            if name in self.trained or unset == 0:
                tensor_map.set(
                    f"decoder.{ours}",
                    PlannedTensor(foreign.shape, foreign.dtype, foreign.read, (foreign,)),
                    foreign.name,
                )
            else:
                tensor_map.set(f"decoder.{ours}", _resized(foreign, config.vocabulary), foreign.name)
            if ours == "embedding.weight" and unset > 0:
                notes.append(
                    f"The checkpoint holds no embeddings and the language model's have {foreign.shape[0]} rows for "
                    f"{config.vocabulary} tokens: the last {unset} are zero here. They were random in the original."
                )
        if config.tied_head and (head := weights.pop(self._head, None)) is not None and saved_embedding is not None:
            self._check_tied(tensor_map, head, saved_embedding)
        if config.head_rows is not None:
            notes.append(
                f"OpenFlamingo never saved the output rows of the tokens from {config.head_rows} on (the end of chunk "
                "is one): in the original they are random at every load. Here they can never be generated, so "
                "answers end by length or by the protocol's own cuts."
            )
        tensor_map.add("decoder.", self.family.table, weights, source, config.heads, self.file)
        return tuple(notes)

    def _head_names(self, config: DecoderConfig) -> list[tuple[str, str]]:
        names = [] if config.tied_head else [("head.weight", self._head)]
        return names + ([("head.bias", f"{self.family.head}.bias")] if config.head_bias else [])

    def _check_tied(self, tensor_map: TensorMap, head: ForeignTensor, embedding: ForeignTensor) -> None:
        """Add a problem if a tied head in the same file differs from the embeddings."""
        if head.file == embedding.file and not (
            head.shape == embedding.shape and torch.equal(head.read(), embedding.read())
        ):
            what = f"{head.name} differs from {embedding.name}, but the config says they are tied."
            tensor_map.problems.append(Problem(what, file=head.file))


def _resized(foreign: ForeignTensor, rows: int) -> PlannedTensor:
    """The first rows; if there are too few, all rows and then zeros."""
    shape = (rows, *foreign.shape[1:])

    def make() -> torch.Tensor:
        resized = torch.zeros(shape, dtype=foreign.dtype)
        n_copied = min(rows, foreign.shape[0])
        resized[:n_copied] = foreign.read()[:n_copied]
        return resized

    return PlannedTensor(shape, foreign.dtype, make, (foreign,))
