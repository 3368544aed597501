"""Prefill: prompts of one shape -> the KV cache; states -> log-probabilities. Used by generation and ranking.

Each prompt is read once, a few at a time; prefixes that prompts share (prefix_cache.py) are read once for all of them.

Shapes: B prompts, L columns of a prompt, n or S states, W vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.picture_attention import Pieces, read
from flamingo_eval.engine.prefix_cache import PrefixCache
from flamingo_eval.engine.query import Query
from flamingo_eval.engine.vision import MIN_ROWS, LastPictures, Projections
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.loaded import LoadedModel
from flamingo_eval.models.xattn import GatedXattn, VisualKV
from flamingo_eval.records import Image, Pixels, Video

LM_HEAD_ROWS = 64  # positions whose logits are in memory at one time while candidates are scored
READ_TOKENS = {"cpu": 1024, "cuda": 16_384}  # read at one time; on a CPU, more would not fit its caches

VisualTokens: TypeAlias = Mapping[Image | Video | Pixels, Tensor]  # of a batch's pictures, [L, R] each


class Prefill:
    """A model's decoder and gated blocks, with a cache of recent prefixes."""

    def __init__(self, model: LoadedModel, flamingo: Flamingo, prefix_columns: int) -> None:
        """`flamingo`: the model's network, possibly packed; `prefix_columns`: size limit of the prefix cache."""
        self.model, self.flamingo = model, flamingo
        parts = (model.flamingo.decoder, model.flamingo.xattn)
        self.token_flops = 2 * sum(p.numel() for part in parts for p in part.parameters())  # products of one token
        self.prefixes_read = 0
        self._prefixes = PrefixCache(prefix_columns)

    def forget_prefixes(self) -> None:
        """Drop all prefixes, for when memory runs out."""
        self._prefixes.clear()

    def read_prompts(
        self, queries: Sequence[Query], pictures: VisualTokens, rows: int, total: int
    ) -> tuple[SlotCache, Tensor, LastPictures]:
        """Read prompts of one padded length into a cache of `rows` rows and `total` columns.

        Also returns the state of each prompt's last token, [B, D], and the keys and values of each row's last picture.
        """
        model, columns, prefix = self.model, queries[0].columns, queries[0].prefix
        cache = SlotCache(model.config.decoder, rows, total, model.device, model.dtype)
        at_once = max(1, READ_TOKENS.get(model.device.type, 1024) // (columns - prefix))
        shared = self._prefix(queries[0], pictures) if prefix else None
        last, projections_of = [], []
        for first in range(0, len(queries), at_once):
            part = queries[first : first + at_once]
            if shared is None:
                cache.fill(slice(first, first + len(part)))
            else:
                cache.fill_prefix(shared, slice(first, first + len(part)))
            x, projections = self._read_columns(part, pictures, slice(prefix, columns), cache)
            ends = torch.tensor([q.length - 1 - prefix for q in part], device=model.device)[:, None, None]
            last.append(x.gather(1, ends.expand(-1, -1, x.shape[2]))[:, 0])
            projections_of.append((len(part), projections))
        cache.branch()
        return cache, torch.cat(last), self._last_pictures(projections_of, rows)

    def branch(
        self,
        tokens: Tensor,
        positions: Tensor,
        cache: SlotCache,
        visual: LastPictures,
        pieces: Pieces | None,
        mask: Tensor,
        ancestors: Tensor | None,
    ) -> Tensor:
        """Read tokens that branch off the prompts into the columns after them (picture_attention.read). -> [B, S, D]"""
        return read(self.flamingo, tokens, positions, cache, visual, pieces, mask, ancestors)

    def log_probs(self, x: Tensor) -> Tensor:
        """States of some tokens -> log-probabilities of the next. [n, D] -> float32[n, W]"""
        n = len(x)
        x = F.pad(x, (0, 0, 0, max(MIN_ROWS - n, 0)))
        return self.flamingo.decoder.logits(x).float().log_softmax(dim=-1)[:n]

    def log_probs_at(self, states: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of some tokens, each at one of the states. [S, D], ascending int64[n], int64[n] -> float32[n]

        Logits of at most LM_HEAD_ROWS states are in memory at one time.
        """
        bounds = torch.searchsorted(rows, torch.arange(0, len(states) + LM_HEAD_ROWS, LM_HEAD_ROWS)).tolist()
        rows, tokens = rows.to(states.device), tokens.to(states.device)
        parts = []
        for i, first in enumerate(range(0, len(states), LM_HEAD_ROWS)):
            part = slice(bounds[i], bounds[i + 1])
            log_probs = self.log_probs(states[first : first + LM_HEAD_ROWS])
            parts.append(log_probs[rows[part] - first, tokens[part]])
        return torch.cat(parts)

    def _prefix(self, query: Query, pictures: VisualTokens) -> SlotCache:
        """Keys and values of a prefix that several prompts share; read at first use."""
        prefix = self._prefixes.get(query.prefix_key)
        if prefix is None:
            prefix = SlotCache(self.model.config.decoder, 1, query.prefix, self.model.device, self.model.dtype)
            self._read_columns([query], pictures, slice(0, query.prefix), prefix)
            self._prefixes.put(query.prefix_key, prefix)
            self.prefixes_read += 1
        return prefix

    def _read_columns(
        self, queries: Sequence[Query], pictures: VisualTokens, columns: slice, cache: SlotCache
    ) -> tuple[Tensor, Projections | None]:
        """Read some columns of prompts into the rows being written. -> [B, columns, D], and the pictures they see"""
        device, n = self.model.device, columns.stop - columns.start
        ids = [q.encoded.ids[columns] for q in queries]
        image_of_token = [q.encoded.image_of_token[columns] for q in queries]
        pairs = [(q.encoded.media, row) for q, row in zip(queries, image_of_token, strict=True)]
        shown_media = list(dict.fromkeys(media[i - 1] for media, row in pairs for i in row if i))
        index_of = {media: i for i, media in enumerate(shown_media)}
        picture_of_token = [
            [index_of[media[i - 1]] if i else -1 for i in row] + [-1] * (n - len(row)) for media, row in pairs
        ]
        projections = None
        if shown_media:
            tokens = torch.stack([pictures[media] for media in shown_media]).to(device)
            projections = Projections(
                tokens,
                [pictures_of_row[len(row) - 1] for pictures_of_row, row in zip(picture_of_token, ids, strict=True)],
            )
        ends = torch.tensor([q.length - 1 for q in queries], device=device)[:, None]
        x = read(
            self.flamingo,
            torch.tensor([row + (0,) * (n - len(row)) for row in ids], device=device),
            torch.arange(columns.start, columns.stop, device=device).minimum(ends),
            cache,
            projections or _blind,
            Pieces.of(picture_of_token, device),
        )
        return x, projections

    def _last_pictures(self, projections_of: list[tuple[int, Projections | None]], rows: int) -> LastPictures:
        """Keys and values of every row's last picture, [rows, H, L, d]; zeros if there is none."""
        example = next((p.kept for _, p in projections_of if p is not None), None)
        if example is None:
            return LastPictures({})
        filled = sum(n for n, _ in projections_of)
        blocks = self.model.config.xattn_blocks
        by_block: dict[int, VisualKV] = {}
        for i, block in enumerate(blocks):
            keys, values = (
                torch.cat(
                    [
                        p.kept[i][part] if p else example[i][part].new_zeros(n, *example[i][part].shape[1:])
                        for n, p in projections_of
                    ]
                    + [example[i][part].new_zeros(rows - filled, *example[i][part].shape[1:])]
                )
                for part in (0, 1)
            )
            by_block[block] = keys, values
        return LastPictures(by_block)


def _blind(block: int, layer: GatedXattn) -> None:
    """The keys and values of no pictures, for prompts without any."""
    del block, layer
