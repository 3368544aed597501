"""The model's forward pass behind one interface: features of pictures, prefill, steps. Positions are always explicit.

Shapes: B prompts padded on the left to S tokens, T new tokens, V vocabulary. Families with three-part positions (Qwen)
store the offset after pictures as state of the model; here a prefill returns it, so prompts do not affect each other.

Prompts behind a common prefix are packed: one sequence of the prefix and then every prompt's own tokens, and a mask
keeps the prompts apart. The prefix's keys and values are neither copied nor read more than once for a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.backends.hf.features import joined_features
from flamingo_eval.backends.hf.pieces import Piece, attention_in_pieces
from flamingo_eval.backends.hf.reader import Read

CROSS_MASK = "cross_attention_mask"  # of Mllama: which pictures each token sees


@dataclass(slots=True)
class Prefilled:
    """A batch of prompts after prefill: its cache, and the next position of each row.

    `logits` float32[B, V] of the next token; `mask` int[B, S]: 1 for the tokens of the cache that a row continues, 0
    for others and padding; `next_position` int[B]; `pictures` [B, 1, N, T], where the family has cross-attention: which
    pictures' tiles the last token and later ones see. `packed`: the rows share a cache of one row.
    """

    logits: Tensor
    cache: Any
    mask: Tensor
    next_position: Tensor
    pictures: Tensor | None = None
    packed: bool = False

    def rows(self, index: Tensor) -> Prefilled:
        """A copy with the rows `index` int[R], which may repeat; packed ones still share their cache."""
        from flamingo_eval.backends.hf.kv_cache import of_rows

        cache = self.cache if self.packed else of_rows(self.cache, index)
        pictures = None if self.pictures is None else self.pictures[index]
        mask, positions = self.mask[index], self.next_position[index]
        return Prefilled(self.logits[index], cache, mask, positions, pictures, self.packed)

    def reorder(self, index: Tensor) -> None:
        """Continue the rows `index` int[R] from now on, as many as before."""
        if self.packed:
            self.mask = self.mask[index]
        else:
            self.cache.reorder_cache(index)


class Network:
    """A loaded model of transformers."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.inner = getattr(model, "model", model)
        self._takes = set(inspect.signature(model.forward).parameters)
        inner_takes = set(inspect.signature(self.inner.forward).parameters)
        self.takes_features = "mm_encoder_outputs" in inner_takes | self._takes and hasattr(
            self.inner, "get_image_features"
        )
        self._rope_index = getattr(self.inner, "get_rope_index", None)

    def takes(self, name: str) -> bool:
        """Whether its forward pass has an input of this name."""
        return name in self._takes

    @property
    def device(self) -> torch.device:
        """Device of inputs."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    # ------------------------------------------------------------------------------------------------------ pictures

    def features(self, read: Read) -> Any:
        """Features of a prompt's pictures: the output of the family's own `get_image_features`."""
        return self._encoded(self.inner.get_image_features, read)

    def clip_features(self, read: Read) -> Any:
        """Features of a prompt's clips that are shown as videos, from `get_video_features`."""
        return self._encoded(self.inner.get_video_features, read)

    @torch.inference_mode()
    def _encoded(self, method: Any, read: Read) -> Any:
        parameters = inspect.signature(inspect.unwrap(method)).parameters
        inputs = {k: self.moved(v) for k, v in read.by_picture.items() if k in parameters}
        return method(**inputs, return_dict=True)

    # ----------------------------------------------------------------------------------------------------- positions

    def positions(self, mask: Tensor, read: Sequence[Read]) -> tuple[Tensor, Tensor]:
        """Position of every token, int[B, S] or int[3, B, S], and that of the token after the last, int[B]."""
        n = mask.sum(dim=1)
        text_positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        if self._rope_index is None:
            return text_positions, n
        parameters = inspect.signature(self._rope_index).parameters
        positions = text_positions[None].repeat(3, 1, 1)
        following = n.clone()
        for row, one in enumerate(read):  # one by one: not every family accepts grids of several prompts
            inputs = {k: self.moved(v) for k, v in one.by_picture.items() if k in parameters}
            by_token = {"attention_mask": torch.ones_like(one.ids), **one.by_token}
            inputs |= {k: self.moved(v)[None] for k, v in by_token.items() if k in parameters}
            if not any(k.endswith("grid_thw") for k in inputs):
                continue
            rope_positions, delta = self._rope_index(input_ids=self.moved(one.ids)[None], **inputs)
            positions[:, row, mask.shape[1] - len(one.ids) :] = rope_positions[-3:, 0]
            following[row] = n[row] + int(delta.reshape(-1)[0])
        return positions, following

    def _later(self, first: Tensor, offsets: Tensor) -> Tensor:
        """Positions of new tokens. int[B], int[T] or int[B, T] -> int[B, T] or int[3, B, T]"""
        plain = first[:, None] + (offsets if offsets.ndim == 2 else offsets[None])
        return plain if self._rope_index is None else plain[None].repeat(3, 1, 1)

    # ------------------------------------------------------------------------------------------------- forward passes

    @torch.inference_mode()
    def prefill(
        self,
        read: Sequence[Read],
        padded: int,
        pad_id: int,
        features: Any = None,
        prefix: Prefilled | None = None,
        clips: Any = None,
    ) -> Prefilled:
        """Read a batch of prompts, each padded on the left to `padded` tokens.

        `features` of all their pictures, `clips` of all clips that are shown as videos.
        Without any there is one prompt, and its pixels are the input. With the cache of a common prefix, `prefix`,
        only the tokens after it are read: padding is between the two, and `features` are of the pictures after it.
        """
        n_cached = 0 if prefix is None else prefix.mask.shape[1]
        width = padded - n_cached
        ids = self.moved(torch.stack([_left(r.ids[n_cached:], width, pad_id) for r in read]))
        mask = self.moved(torch.stack([_left(torch.ones_like(r.ids[n_cached:]), width, 0) for r in read]))
        if prefix is not None:
            mask = torch.cat([prefix.mask, mask], dim=1)
        extra: dict[str, Any] = {
            name: self.moved(torch.stack([_left(r.by_token[name][n_cached:], width, 0) for r in read]))
            for name in read[0].by_token
        }
        encoded = {name: output for name, output in (("image", features), ("video", clips)) if output is not None}
        if encoded:
            extra["mm_encoder_outputs"] = encoded
        elif prefix is None and read[0].by_picture:
            extra |= {k: self.moved(v) for k, v in read[0].by_picture.items()}
        positions, following = self.positions(mask, read)
        cache = self._new_cache(encoded) if prefix is None else prefix.cache
        out = self._forward(ids, mask, positions[..., n_cached:], cache, 1, **extra)
        seen_pictures = extra.get(CROSS_MASK)
        pictures = None if seen_pictures is None else seen_pictures[:, -1:]
        return Prefilled(out.logits[:, -1].float(), out.past_key_values, mask, following, pictures)

    @torch.inference_mode()
    def prefill_pieces(self, read: Read, pad_id: int, features: Sequence[Any], pieces: Sequence[Piece]) -> Prefilled:
        """Read one prompt piece by piece; `features` of each of its pictures."""
        state: Prefilled | None = None
        n_read = 0
        for piece in pieces:
            by_token = {name: value[: piece.tokens] for name, value in read.by_token.items()}
            part = Read(read.ids[: piece.tokens], by_token, read.by_picture if piece.pictures else {})
            new = features[n_read : piece.pictures]
            with attention_in_pieces(self.model):
                state = self.prefill([part], piece.tokens, pad_id, joined_features(new) if new else None, state)
            n_read = piece.pictures
        assert state is not None
        return state

    @torch.inference_mode()
    def prefill_packed(self, read: Sequence[Read], features: Any, prefix: Prefilled) -> Prefilled:
        """Read what follows a common prefix, of prompts of any lengths; `features` of the pictures after it.

        The tokens are put behind `prefix`'s own cache. Those of an earlier batch are forgotten.
        """
        from flamingo_eval.backends.hf.kv_cache import cut

        n_cached = prefix.mask.shape[1]
        cut(prefix.cache, n_cached)
        lengths = torch.tensor([len(r.ids) - n_cached for r in read])
        owner = torch.arange(len(read)).repeat_interleave(lengths)
        rows = self.moved(owner[None] == torch.arange(len(read))[:, None]).long()
        mask = torch.cat([prefix.mask.expand(len(read), -1), rows], dim=1)
        sees = mask[self.moved(owner)].bool()
        sees[:, n_cached:] &= torch.ones_like(sees[:, n_cached:]).tril()
        both = [self.positions(torch.ones_like(self.moved(r.ids))[None], [r]) for r in read]
        positions = torch.cat([p[..., n_cached:] for p, _ in both], dim=-1)
        ids = self.moved(torch.cat([r.ids[n_cached:] for r in read]))[None]
        extra: dict[str, Any] = {
            name: self.moved(torch.cat([r.by_token[name][n_cached:] for r in read]))[None] for name in read[0].by_token
        }
        if features is not None:
            extra["mm_encoder_outputs"] = {"image": features}
        last = self.moved(lengths.cumsum(dim=0) - 1)
        out = self._forward(ids, self._additive(sees), positions, prefix.cache, last, **extra)
        logits = out.logits[0] if out.logits.shape[1] == len(read) else out.logits[0, last]
        following = torch.cat([f for _, f in both])
        return Prefilled(logits.float(), out.past_key_values, mask, following, packed=True)

    @torch.inference_mode()
    def extend(self, state: Prefilled, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        """Read int[B, T] more tokens of text and return their logits, float32[B, T, V]; `state` grows by them.

        `real` int[B, T]: 0 for padding on the right. Packed rows take one token at a time.
        """
        if state.packed:
            return self._extend_packed(state, tokens)
        real = torch.ones_like(tokens) if real is None else real
        mask = torch.cat([state.mask, real], dim=1)
        positions = self._later(state.next_position, torch.arange(tokens.shape[1], device=tokens.device))
        extra = {} if state.pictures is None else {CROSS_MASK: state.pictures.expand(-1, tokens.shape[1], -1, -1)}
        out = self._forward(tokens, mask, positions, state.cache, 0, **extra)
        state.cache, state.mask = out.past_key_values, mask
        state.next_position = state.next_position + tokens.shape[1]
        logits: Tensor = out.logits.float()
        return logits

    def _extend_packed(self, state: Prefilled, tokens: Tensor) -> Tensor:
        own = torch.eye(len(tokens), dtype=state.mask.dtype, device=state.mask.device)
        state.mask = torch.cat([state.mask, own], dim=1)
        positions = self._later(state.next_position, torch.zeros(1, dtype=torch.long, device=tokens.device))
        out = self._forward(tokens.T, self._additive(state.mask.bool()), positions.transpose(-1, -2), state.cache, 0)
        state.next_position = state.next_position + 1
        logits: Tensor = out.logits[0].float()
        return logits[:, None]

    @torch.inference_mode()
    def branch(self, state: Prefilled, tokens: Tensor, depths: Tensor, sees: Tensor) -> Tensor:
        """Logits after each of N branching tokens of one prompt, read in one pass. -> float32[N, V]

        `depths` int[N]: its distance from the prompt's end; `sees` bool[N, N]: which of the others it continues.
        `state` has one row. If it is packed, its cache is left as it was; otherwise it cannot be used afterwards.
        """
        from flamingo_eval.backends.hf.kv_cache import cut

        before = state.mask.bool().expand(len(tokens), -1)
        mask = self._additive(torch.cat([before, sees], dim=1))
        positions = self._later(state.next_position, depths)
        out = self._forward(tokens[None], mask, positions, state.cache, 0)
        if state.packed:
            cut(state.cache, state.mask.shape[1])
        logits: Tensor = out.logits[0].float()
        return logits

    def _new_cache(self, encoded: Mapping[str, Any]) -> Any:
        """None where the model reads pixels: its own code makes the cache then."""
        from flamingo_eval.backends.hf.kv_cache import new_cache

        return new_cache(self.model.config) if encoded else None

    def _additive(self, allowed: Tensor) -> Tensor:
        """bool[N, M] -> float[1, 1, N, M] to add to attention's logits."""
        mask = torch.zeros(allowed.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill(~allowed, torch.finfo(self.dtype).min)[None, None]

    def _forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any, keep: int | Tensor, **extra: Any
    ) -> Any:
        options: dict[str, Any] = {"logits_to_keep": keep} if "logits_to_keep" in self._takes else {}
        if cache is not None:
            options["past_key_values"] = cache
        return self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, return_dict=True,
            **options, **extra,
        )  # fmt: skip

    def moved(self, value: Any) -> Any:
        """A tensor on the model's device, in its number format if it holds numbers with a fraction."""
        if not isinstance(value, Tensor):
            return value
        on_device = value.to(self.device)
        return on_device.to(self.dtype) if on_device.is_floating_point() else on_device


def _left(row: Tensor, length: int, fill: int) -> Tensor:
    return F.pad(row, (length - len(row), 0), value=fill)
