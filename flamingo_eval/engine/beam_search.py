"""Beam search as OpenFlamingo ran it (transformers 4.33, `early_stopping=False`), for many prompts at once.

Shapes: B prompts, K beams, V vocabulary, T steps so far. The state is tensors on one device and no step reads them on
the host, except `finished`. One beam is plain greedy search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e9  # the score of the beams that do not exist yet; finite, so that sums stay numbers
UNUSED = float("-inf")


@dataclass(slots=True)
class BeamState:
    """Running and finished beams of B prompts.

    `tokens` int[B, K, T] and `scores` float32[B, K] (summed log-probabilities) are the running ones, best first.
    Finished ones have their penalised score (-inf: free place), their tokens (padded with 0) and their length without
    the stop token. `parents` int[B, K]: which beam of the previous step each running one continues. `lost` bool[B]:
    a log-probability was NaN before the prompt was done, so its beams are meaningless.
    """

    tokens: Tensor
    scores: Tensor
    parents: Tensor
    ended_tokens: Tensor
    ended_scores: Tensor
    ended_lengths: Tensor
    done: Tensor
    lost: Tensor
    length_penalty: float

    @classmethod
    def start(cls, prompts: int, beams: int, length_penalty: float, device: torch.device | str = "cpu") -> BeamState:
        """B prompts with nothing generated; only the first of their beams exists."""
        scores = torch.full((prompts, beams), NEVER, device=device)
        scores[:, 0] = 0.0
        return cls(
            tokens=torch.zeros(prompts, beams, 0, dtype=torch.long, device=device),
            scores=scores,
            parents=torch.zeros(prompts, beams, dtype=torch.long, device=device),
            ended_tokens=torch.zeros(prompts, beams, 0, dtype=torch.long, device=device),
            ended_scores=torch.full((prompts, beams), UNUSED, device=device),
            ended_lengths=torch.zeros(prompts, beams, dtype=torch.long, device=device),
            done=torch.zeros(prompts, dtype=torch.bool, device=device),
            lost=torch.zeros(prompts, dtype=torch.bool, device=device),
            length_penalty=length_penalty,
        )

    @property
    def beams(self) -> int:
        return self.scores.shape[1]

    def finished(self) -> bool:
        """Whether no prompt needs another step. Waits for the device."""
        return bool(self.done.all())

    def step(self, log_probs: Tensor, stop_tokens: Tensor) -> None:
        """Extend every running beam by its best next tokens.

        `log_probs` float32[B, K, V] of the next token of each running beam; `stop_tokens` int[n] end a beam.
        Ties go to the beam that ranks higher, then to the lower token id.
        """
        B, K, V = log_probs.shape
        n_new = self.tokens.shape[2] + 1
        sums = (self.scores[:, :, None] + log_probs).view(B, K * V)
        n_seen = K * (1 + max(len(stop_tokens), 1))  # so that K beams continue, whatever stops
        best, flat = ordered_topk(sums, min(n_seen, K * V))
        self.lost = self.lost | (best[:, 0].isnan() & ~self.done)  # NaN ranks above every number
        beam, token = flat // V, flat % V
        stops = torch.isin(token, stop_tokens)

        self._end(best, beam, stops, n_new)
        self._settle(best[:, 0], n_new)

        running = torch.sort(stops.long(), dim=1, stable=True).indices[:, :K]  # the best K that continue, in order
        self.parents = beam.gather(1, running)
        self.scores = best.gather(1, running)
        previous_tokens = _of_beam(self.tokens, self.parents)
        self.tokens = torch.cat([previous_tokens, token.gather(1, running)[:, :, None]], dim=2)

    def best(self) -> tuple[Tensor, Tensor]:
        """Tokens int[B, T] of each prompt's best beam, without its stop token, and their number int[B].

        Beams that are still running after the last step compete with the finished ones, as if they ended there.
        """
        steps = self.tokens.shape[2]
        running = self._penalised(self.scores, max(steps, 1)).masked_fill(self.done[:, None], UNUSED)
        scores = torch.cat([self.ended_scores, running], dim=1)
        tokens = torch.cat([_padded(self.ended_tokens, steps), self.tokens], dim=1)
        lengths = torch.cat([self.ended_lengths, torch.full_like(self.ended_lengths, steps)], dim=1)
        winner = scores.argmax(dim=1, keepdim=True)
        return _of_beam(tokens, winner)[:, 0], lengths.gather(1, winner)[:, 0]

    def _penalised(self, sums: Tensor, n_tokens: int) -> Tensor:
        return sums / math.pow(n_tokens, self.length_penalty)

    def _end(self, best: Tensor, beam: Tensor, stops: Tensor, n_new: int) -> None:
        """Beams among the first K whose next token is a stop become finished; the best K finished ones are kept."""
        K = self.beams
        ends = stops[:, :K] & ~self.done[:, None]
        ended = self._penalised(best[:, :K], n_new).masked_fill(~ends, UNUSED)
        tokens = _of_beam(self.tokens, beam[:, :K])
        scores = torch.cat([self.ended_scores, ended], dim=1)
        lengths = torch.cat([self.ended_lengths, torch.full_like(self.ended_lengths, n_new - 1)], dim=1)
        tokens = torch.cat([_padded(self.ended_tokens, n_new - 1), tokens], dim=1)
        self.ended_scores, best_indices = ordered_topk(scores, K)
        self.ended_lengths = lengths.gather(1, best_indices)
        self.ended_tokens = _of_beam(tokens, best_indices)

    def _settle(self, best_sum: Tensor, n_new: int) -> None:
        """A prompt is done when K beams have ended and no running one, at its present length, could beat the worst."""
        worst = self.ended_scores[:, -1]
        best_reachable = self._penalised(best_sum, n_new)
        settled = worst >= best_reachable
        if self.beams == 1:
            settled = worst > UNUSED  # greedy search ends with its first stop token
        self.done = self.done | ((worst > UNUSED) & settled)


def ordered_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row, largest first; ties go to the lower index.

    float[B, N] -> float[B, k], int[B, k]
    """
    values, indices = scores.topk(k, dim=1)
    by_index = indices.sort(dim=1)
    values = values.gather(1, by_index.indices)
    by_value = values.sort(dim=1, descending=True, stable=True)
    return by_value.values, by_index.values.gather(1, by_value.indices)


def _of_beam(tokens: Tensor, beam: Tensor) -> Tensor:
    """int[B, K, T] at int[B, N] -> int[B, N, T]"""
    return tokens.gather(1, beam[:, :, None].expand(-1, -1, tokens.shape[2]))


def _padded(tokens: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[2]))
