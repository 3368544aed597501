"""Prompts answered by the model's own code alone: `generate`, and one forward pass a candidate.

For families whose caches or positions follow rules of their own. One prompt at a time, no position or cache is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flamingo_eval.backends.hf.network import Network
from flamingo_eval.backends.hf.reader import Read
from flamingo_eval.config.specs import DecodeSpec

POSITIONS = "position_ids"
STATE = "rope_deltas"  # what families with three-part positions remember of the prompt before


class OwnCode:
    """A model of transformers, asked as its documentation asks it."""

    def __init__(self, network: Network) -> None:
        self.network = network

    @torch.inference_mode()
    def generate(self, read: Read, spec: DecodeSpec, stop_ids: Tensor, pad_id: int) -> list[int]:
        """Ids of the continuation, greedy or by the beam search of transformers."""
        options: dict[str, Any] = {"eos_token_id": stop_ids.tolist()} if len(stop_ids) else {}
        if spec.beams > 1:
            options |= {"length_penalty": spec.length_penalty, "early_stopping": False}
        self._forget()
        out = self.network.model.generate(
            **self._inputs(read), do_sample=False, num_beams=spec.beams, max_new_tokens=spec.max_new_tokens,
            pad_token_id=pad_id, return_dict_in_generate=False, **options,
        )  # fmt: skip
        if not isinstance(out, Tensor):  # DiffusionGemma's, which writes no token after another
            raise TypeError(f"its `generate` returns {type(out).__name__}, not token ids")
        ids: list[int] = out[0].tolist()
        prompt = read.ids.tolist()
        return ids[len(prompt) :] if ids[: len(prompt)] == prompt else ids

    def sums(self, read: Read, candidates: Sequence[Sequence[int]]) -> Tensor:
        """The log-likelihood of each candidate after the prompt. -> float64[C]"""
        sums = []
        for candidate in candidates:
            ids = torch.tensor(candidate)
            log_probs = self.logits(self.continued(read, ids), len(candidate) + 1)[:-1].log_softmax(dim=-1).cpu()
            sums.append(log_probs.gather(1, ids[:, None]).double().sum())
        return torch.stack(sums)

    @torch.inference_mode()
    def logits(self, read: Read, last: int) -> Tensor:
        """What follows each of the `last` tokens of a prompt. -> float32[last, V]"""
        self._forget()
        logits: Tensor = self.network.model(**self._inputs(read), return_dict=True).logits
        return logits[0, -last:].float()

    @torch.inference_mode()
    def predicted(self, read: Read) -> int:
        """For how many positions one pass over a prompt returns logits: its tokens, except in models of diffusion."""
        self._forget()
        return int(self.network.model(**self._inputs(read), return_dict=True).logits.shape[1])

    def _inputs(self, read: Read) -> dict[str, Any]:
        rows = {"input_ids": read.ids, "attention_mask": torch.ones_like(read.ids), **read.by_token}
        return {
            **{name: self.network.moved(row[None]) for name, row in rows.items()},
            **{name: self.network.moved(value) for name, value in read.by_picture.items()},
        }

    def continued(self, read: Read, ids: Tensor) -> Read:
        """The prompt with more text: token types of text, continued positions, the pictures of the last token."""
        n = len(read.ids)
        by_token = {
            name: torch.cat([row, _after(row, ids) if name == POSITIONS else torch.zeros_like(ids)])
            for name, row in read.by_token.items()
        }
        by_picture = dict(read.by_picture)
        for name, value in read.by_picture.items():
            if name == POSITIONS:
                by_picture[name] = torch.cat([value, _after(value, ids)], dim=-1)
            elif name.endswith("attention_mask") and value.ndim > 2 and value.shape[1] == n:
                by_picture[name] = torch.cat([value, value[:, -1:].expand(-1, len(ids), *value.shape[2:])], dim=1)
        return replace(read, ids=torch.cat([read.ids, ids]), by_token=by_token, by_picture=by_picture)

    def _forget(self) -> None:
        for part in (self.network.model, self.network.inner):
            if hasattr(part, STATE):
                setattr(part, STATE, None)


def _after(positions: Tensor, ids: Tensor) -> Tensor:
    """Positions of text after those of a prompt, along the last axis."""
    return positions[..., -1:] + 1 + torch.arange(len(ids))
