"""The network that is trained: frozen encoder and language model, Resampler, gated blocks, rows of new tokens.

Shapes as in models/flamingo.py; n positions of a batch have a token to predict.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamingo_eval.models.decoder import AttentionView, Decoder
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.preprocess import normalised
from flamingo_eval.models.xattn import GatedXattn, image_mask
from flamingo_eval.training.bridge.sequences import Batch
from flamingo_eval.training.loop import attention_kernels


class NewRows(nn.Module):
    """The rows of embedding and head for the tokens that the bridge adds: `first` to `first + n`."""

    def __init__(self, decoder: Decoder, first: int, n: int) -> None:
        super().__init__()
        self.first, self.n = first, n
        self.embedding = nn.Parameter(decoder.embedding.weight[first : first + n].detach().float().clone())
        head = decoder.head
        self.head = None if head is None else nn.Parameter(head.weight[first : first + n].detach().float().clone())

    def forward(self, x: Tensor, tokens: Tensor, frozen: Tensor) -> Tensor:
        """Embedded tokens, with the trained rows for new ones. [B, S, D], int64[B, S], [n, D] -> [B, S, D]"""
        change = self.embedding - frozen.float()
        own = tokens - self.first
        is_new = (own >= 0) & (own < self.n)
        picked = F.embedding(own.clamp(0, self.n - 1), change)
        return x + (picked * is_new[..., None]).to(x.dtype)

    def logits(self, hidden: Tensor, scale: float) -> Tensor:
        """[n, D] -> [n, rows]"""
        return F.linear(hidden, self.embedding if self.head is None else self.head) * scale


class Bridge(nn.Module):
    """A Flamingo in which only Resampler, gated blocks and new rows are trained; maps a batch to its summed loss."""

    def __init__(self, flamingo: Flamingo, tokens: int, checkpointing: bool = False) -> None:
        """`tokens`: size of the tokenizer, one more than the highest id."""
        super().__init__()
        self.flamingo, self.checkpointing = flamingo, checkpointing
        flamingo.requires_grad_(False)
        for part in self.new_parts():
            part.requires_grad_(True).float()
        first = flamingo.config.tokens.trained_from
        rows = 0 if first is None else tokens - first
        self.new_rows = NewRows(flamingo.decoder, cast(int, first), rows) if rows > 0 else None

    def new_parts(self) -> Iterator[nn.Module]:
        """The trained parts, without new rows."""
        if self.flamingo.resampler is not None:
            yield self.flamingo.resampler
        yield self.flamingo.xattn

    def gates(self) -> dict[int, float]:
        """Mean |tanh| of the attention gate and of the feed-forward gate, by block."""
        return {i: _mean_gate(gated) for i, gated in self._gated()}

    def _gated(self) -> Iterator[tuple[int, GatedXattn]]:
        for i in self.flamingo.config.xattn_blocks:
            gated = self.flamingo.gated_block(i)
            assert gated is not None
            yield i, gated

    def forward(self, batch: Batch) -> Tensor:
        """The sum of the losses of all learned tokens, float32."""
        flamingo = self.flamingo
        decoder = flamingo.decoder
        visual = self._visual(batch)
        positions = decoder.next_positions(batch.tokens, None, None) if batch.positions is None else batch.positions
        x = decoder.embed(batch.tokens, positions)
        if self.new_rows is not None:
            first, n = self.new_rows.first, self.new_rows.n
            x = self.new_rows(x, batch.tokens, decoder.embedding.weight[first : first + n])
        view = decoder.attention_view(positions, batch.mask)
        picture_mask = image_mask(batch.sees, visual.shape[1], visual.shape[2], flamingo.config.xattn.sees)
        starts = [*flamingo.config.xattn_blocks, len(decoder.blocks)]
        for i in range(starts[0]):
            x = decoder.blocks[i](x, i, view, None)
        for first_block, end in pairwise(starts):
            if self.checkpointing:
                x = checkpoint(self._group, x, visual, picture_mask, view, first_block, end, use_reentrant=False)
            else:
                x = self._group(x, visual, picture_mask, view, first_block, end)
        return self._loss(x, batch)

    def _visual(self, batch: Batch) -> Tensor:
        """Visual tokens of every sequence's pictures, [B, M, L, R]."""
        flamingo = self.flamingo
        kind = flamingo.decoder.embedding.weight.dtype
        tokens = []
        for group in batch.pixels:
            with torch.no_grad():
                features = flamingo.features(normalised(group, flamingo.config.preprocess).to(kind))
            with attention_kernels(group.device):
                tokens.append(flamingo.visual_tokens(features))
        return torch.cat(tokens)[batch.places]

    def _group(
        self, x: Tensor, visual: Tensor, picture_mask: Tensor, view: AttentionView, first: int, end: int
    ) -> Tensor:
        """A gated block and the frozen ones up to the next."""
        gated = self.flamingo.gated_block(first)
        assert gated is not None
        with attention_kernels(x.device):  # here, because a checkpoint computes it again outside of any other context
            x = gated(x, gated.project_visual(visual), picture_mask).to(x.dtype)
            for i in range(first, end):
                x = self.flamingo.decoder.blocks[i](x, i, view, None)
        return x

    def _loss(self, x: Tensor, batch: Batch) -> Tensor:
        decoder = self.flamingo.decoder
        x = x.flatten(0, 1)[batch.picked]  # [n, D]
        logits = decoder.logits(x)
        if self.new_rows is not None:
            first, end = self.new_rows.first, self.new_rows.first + self.new_rows.n
            hidden = x if decoder.norm is None else decoder.norm(x)
            own = self.new_rows.logits(hidden, decoder.config.logit_scale).to(logits.dtype)
            logits = torch.cat([logits[:, :first], own, logits[:, end:]], dim=-1)
        return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


@torch.no_grad()
def _mean_gate(gated: GatedXattn) -> float:
    gates = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in (gated.attention_gate, gated.ff_gate)]
    return float(torch.cat(gates).float().tanh().abs().mean())
