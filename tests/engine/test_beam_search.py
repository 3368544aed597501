"""The vectorised search against the same rules in plain loops, on random next-token tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flamingo_eval.engine.beam_search import NEVER, BeamState, ordered_topk

VOCABULARY = 7
STOP = 0


def next_log_probs(seed: int, beginning: tuple[int, ...]) -> Tensor:
    """A language model without memory cost: the next token's log-probabilities after a beginning. float32[V]"""
    key = seed
    for token in beginning:
        key = (key * 1_000_003 + token + 1) % (2**31)
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(key)).mul(2).log_softmax(0)


def plain_search(seed: int, beams: int, steps: int, penalty: float) -> tuple[int, ...]:
    """Beam search in loops: the rules of transformers 4.33's BeamSearchScorer, lengths without the prompt."""
    running: list[tuple[float, tuple[int, ...]]] = [(0.0, ()), *[(NEVER, ())] * (beams - 1)]
    ended: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, steps + 1):
        options = [
            (total + float(p), i * VOCABULARY + token, beginning, token)
            for i, (total, beginning) in enumerate(running)
            for token, p in enumerate(next_log_probs(seed, beginning))
        ]
        options.sort(key=lambda o: (-o[0], o[1]))
        running = []
        for rank, (total, _, beginning, token) in enumerate(options[: 2 * beams]):
            if token == STOP:
                score = total / length**penalty
                if rank < beams and (len(ended) < beams or score > min(ended)[0]):
                    ended.append((score, beginning))
                    ended = sorted(ended, reverse=True)[:beams]
            elif len(running) < beams:
                running.append((total, (*beginning, token)))
        if len(ended) == beams and (beams == 1 or min(ended)[0] >= options[0][0] / length**penalty):
            return max(ended)[1]
    ended += [(total / steps**penalty, beginning) for total, beginning in running]
    return max(ended)[1]


def search(seeds: list[int], beams: int, steps: int, penalty: float) -> list[tuple[int, ...]]:
    state = BeamState.start(len(seeds), beams, penalty)
    for _ in range(steps):
        rows = [[next_log_probs(s, tuple(t)) for t in state.tokens[b].tolist()] for b, s in enumerate(seeds)]
        state.step(torch.stack([torch.stack(r) for r in rows]), torch.tensor([STOP]))
        if state.finished():
            break
    tokens, lengths = state.best()
    return [tuple(t[:n]) for t, n in zip(tokens.tolist(), lengths.tolist(), strict=True)]


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0, -1.0])
def test_search_follows_the_plain_rules(beams: int, penalty: float) -> None:
    seeds = list(range(24))
    assert search(seeds, beams, 6, penalty) == [plain_search(s, beams, 6, penalty) for s in seeds]


def test_answers_do_not_depend_on_the_batch() -> None:
    assert search([3, 4, 5], 3, 5, 0.0) == [search([s], 3, 5, 0.0)[0] for s in (3, 4, 5)]


def test_an_answer_may_be_empty() -> None:
    state = BeamState.start(1, 3, 0.0)
    certain = torch.full((1, 3, VOCABULARY), math.log(1e-3))
    certain[:, :, STOP] = math.log(0.99)
    state.step(certain, torch.tensor([STOP]))
    _, lengths = state.best()
    assert lengths.tolist() == [0]


def test_parents_say_which_beam_goes_on() -> None:
    state = BeamState.start(1, 2, 0.0)
    state.step(torch.tensor([[[-9, -1, -2, -9], [-9, -9, -9, -9]]]).float(), torch.tensor([STOP]))
    assert state.parents.tolist() == [[0, 0]]
    assert state.tokens.tolist() == [[[1], [2]]]
    state.step(torch.tensor([[[-9, -9, -9, -5], [-9, -1, -9, -2]]]).float(), torch.tensor([STOP]))
    assert state.parents.tolist() == [[1, 1]]
    assert state.tokens.tolist() == [[[2, 1], [2, 3]]]


def test_two_stop_tokens_end_beams() -> None:
    state = BeamState.start(1, 1, 0.0)
    state.step(torch.tensor([[[-9, -1, -2, -9]]]).float(), torch.tensor([STOP, 1]))
    assert state.finished()


def test_equal_scores_fall_to_the_lower_index() -> None:
    values, indices = ordered_topk(torch.tensor([[1.0, 2.0, 1.0, 2.0]]), 4)
    assert indices.tolist() == [[1, 3, 0, 2]]
    assert values.tolist() == [[2.0, 2.0, 1.0, 1.0]]
