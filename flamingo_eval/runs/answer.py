"""Episodes -> outputs with an engine: prompts, generation or ranking of candidates, cleaning of generated text.

An answer depends on its episode only, so any process may answer any part of a run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from flamingo_eval.config.specs import Asked, DecodeSpec, RankSpec, RunSpec
from flamingo_eval.errors import PromptError, RunError
from flamingo_eval.prompting.letters import choice_of
from flamingo_eval.prompting.prompts import candidate_text, clean, render
from flamingo_eval.prompting.support import endless_draw
from flamingo_eval.records import SCORE_DECIMALS, Answer, Best, Episode, Example, Output, Prompt, Split, best_of


class Engine(Protocol):
    """Answers prompts. Any object with these two methods can be evaluated.

    Both take prompts one at a time and yield (index of the prompt, Answer) pairs, in any order, each index once. A
    prompt that cannot be answered gives an Answer with its `error`. `generate` is called for open-ended tasks, `score`
    for close-ended ones: `candidates` yields one list for each prompt, and an answer has one log-likelihood for each
    candidate. Optional members:

    - `best(prompts, candidates, spec)`: like `score`, but answers contain only the best candidate. Without it, `score`
      is called.
    - `stats`: a mapping of counts that grow, for the run's record.
    """

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]: ...

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]: ...


@runtime_checkable
class OutputSource(Protocol):
    """Replaces an engine when several processes answer: episodes in, outputs in any order."""

    def outputs(self, episodes: Collection[Episode], spec: RunSpec, split: Split) -> Iterator[Output]: ...


def stats_of(engine: Engine | OutputSource) -> Mapping[str, Any]:
    """The counts of an engine; empty if it has none."""
    stats: Mapping[str, Any] = getattr(engine, "stats", {})
    return stats


def answer(episodes: Iterable[Episode], spec: RunSpec, split: Split, engine: Engine) -> Iterator[Output]:
    """One Output per episode, in the order in which the engine finishes them."""
    if spec.generates:
        yield from _generated(episodes, spec, split, engine)
    else:
        yield from _ranked(episodes, spec, split, engine)


class _Rendering:
    """Prompts of the episodes as an engine asks for them, and its answers with their episodes.

    An episode is held from its prompt to its answer; one without a prompt is put aside with its error.
    """

    def __init__(self, episodes: Iterable[tuple[Episode, Episode]], spec: RunSpec, candidates: Sequence[str]) -> None:
        """`episodes`: each as it was drawn, and as it is shown (in another order of its shots)."""
        self.episodes, self.spec, self.candidates = episodes, spec, candidates
        self.sent = 0
        self.asked: deque[Example] = deque()  # queries of the prompts whose candidates were not taken yet
        self.waiting: dict[int, Episode] = {}  # by the engine's index
        self.failed: dict[str, tuple[Episode, PromptError]] = {}  # by query id: all orders of an episode fail alike

    def prompts(self) -> Iterator[Prompt]:
        for episode, ordered in self.episodes:
            try:
                prompt = render(ordered, self.spec.prompt, self.spec.protocol, self.candidates)
            except PromptError as error:
                self.failed[episode.query.id] = episode, error
                continue
            self.asked.append(episode.query)
            self.waiting[self.sent] = episode
            self.sent += 1
            yield replace(prompt, common_prefix=self.spec.demos.method == "fixed")

    def queries(self) -> Iterator[Example]:
        """The query of each prompt, in step with them: it is known once the prompt is handed out."""
        while self.asked:
            yield self.asked.popleft()

    def answered(self, pairs: Iterator[tuple[int, Answer]]) -> Iterator[tuple[Episode, Answer]]:
        """Answers of an engine that keeps to the protocol. Raises RunError at the first that does not."""
        for pair in pairs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Answer)):
                raise _broken(f"expected (index of the prompt, Answer), got {str(pair)[:60]!r}")
            index, answer = pair
            if index not in self.waiting:
                repeated = 0 <= index < self.sent
                raise _broken(f"index {index} is {'repeated' if repeated else 'of no prompt that it has taken'}")
            yield self.waiting.pop(index), answer
        if self.waiting:
            raise _broken(f"{self.sent - len(self.waiting)} answers to {self.sent} prompts")

    def failures(self) -> Iterator[Output]:
        """The episodes that no prompt could be made of."""
        for episode, error in self.failed.values():
            yield _output(episode, Answer(0, error=error))


def _generated(episodes: Iterable[Episode], spec: RunSpec, split: Split, engine: Engine) -> Iterator[Output]:
    rendering = _Rendering(((e, e) for e in episodes), spec, split.candidates)
    for episode, answer in rendering.answered(engine.generate(rendering.prompts(), spec.decode)):
        if answer.text is None and answer.error is None:
            raise _broken(f"its answer to {episode.query.id} has neither text nor error")
        output = _output(episode, answer)
        if answer.text is not None:
            answer = replace(answer, text=spec.decode.cut(answer.text))
            output = replace(output, raw=_raw(answer), prediction=_cleaned(answer.text or "", spec))
            if spec.rank.wanted == "letter":
                output = replace(output, best=_lettered(output, episode.query.candidates or split.candidates))
        yield output
    yield from rendering.failures()


def _lettered(output: Output, choices: Sequence[str]) -> Best | None:
    """The choice with the answer's letter, with score 1; None for an answer without a letter, which counts as wrong."""
    index = choice_of(output.prediction or "", len(choices))
    return None if index is None else Best(index, 1.0)


def _broken(what: str) -> RunError:
    return RunError(f"the engine violates its protocol: {what}.", fix="See docs/python.md.")


def _raw(answer: Answer) -> str:
    """The raw text, preceded by the model's thinking between marks."""
    return f"<think>{answer.thought}</think>{answer.text}" if answer.thought else answer.text or ""


def _cleaned(text: str, spec: RunSpec) -> str:
    prediction = clean(text, spec.prompt.clean)
    if spec.prompt.clean.stem_okvqa:
        from flamingo_eval.prompting.okvqa_stem import stem_okvqa

        prediction = stem_okvqa(prediction)
    return prediction


def _ranked(episodes: Iterable[Episode], spec: RunSpec, split: Split, engine: Engine) -> Iterator[Output]:
    """Candidate log-likelihoods, averaged over the orders of the shots (Flamingo v2 A.2: up to 6 permutations)."""
    orders: dict[str, int] = {}  # by query id, how many are shown

    def in_orders() -> Iterator[tuple[Episode, Episode]]:
        for episode in episodes:
            permutations = shot_orders(episode, spec)
            orders[episode.query.id] = len(permutations)
            for order in permutations:
                yield episode, replace(episode, shots=tuple(episode.shots[i] for i in order))

    rendering = _Rendering(in_orders(), spec, split.candidates)
    texts: dict[tuple[str, ...], list[str]] = {}  # a thousand class names are inserted into the template once

    def candidates_of(example: Example) -> list[str]:
        names = example.candidates or split.candidates
        if names not in texts:
            if len(texts) > 64:
                texts.clear()
            texts[names] = [candidate_text(c, spec.prompt) for c in names]
        return texts[names]

    candidates = map(candidates_of, rendering.queries())
    unfinished: dict[str, list[Answer]] = {}  # by query id, until all its orders are answered
    search = getattr(engine, "best", None) if spec.rank.wanted == "best" else None
    for episode, answer in rendering.answered((search or engine.score)(rendering.prompts(), candidates, spec.rank)):
        id, expected = episode.query.id, len(episode.query.candidates or split.candidates)
        if answer.error is None and answer.best is None and len(answer.scores or ()) != expected:
            raise _broken(f"{id} has {expected} candidates, got {len(answer.scores or ())} scores")
        unfinished.setdefault(id, []).append(answer)
        if len(unfinished[id]) == orders[id]:
            del orders[id]
            output = _averaged(episode, unfinished.pop(id))
            yield _best_alone(output) if spec.rank.wanted == "best" else output
    yield from rendering.failures()


def _averaged(episode: Episode, answers: Sequence[Answer]) -> Output:
    error_answer = next((a for a in answers if a.error is not None), None)
    if error_answer is not None:
        return _output(episode, error_answer)
    best = answers[0].best
    if best is not None:  # one order only: check_wanted raises for more
        return replace(_output(episode, answers[0]), best=replace(best, score=round(best.score, SCORE_DECIMALS)))
    rows = [a.scores or () for a in answers]
    means = tuple(sum(sorted(column)) / len(rows) for column in zip(*rows, strict=True))
    return replace(_output(episode, answers[0]), scores=tuple(round(m, SCORE_DECIMALS) for m in means))


def _best_alone(output: Output) -> Output:
    """An output with only the best candidate, for an engine that scored all of them."""
    if not output.scores:
        return output
    best = best_of(output.scores)
    return replace(output, scores=None, best=Best(best, output.scores[best]))


def shot_orders(episode: Episode, spec: Asked) -> list[tuple[int, ...]]:
    """The orders in which the shots are shown: as drawn, then other distinct ones, min(permutations, n!) in all."""
    n = len(episode.shots)
    orders = [tuple(range(n))]
    n_orders = _factorial_up_to(n, spec.rank.permutations)
    attempt = 0
    while len(orders) < n_orders:
        key = f"{spec.demos.seed}:{spec.task.name}:{episode.query.id}:order {attempt}"
        order = tuple(endless_draw(n, key))
        attempt += 1
        if order not in orders:
            orders.append(order)
    return orders


def _factorial_up_to(n: int, limit: int) -> int:
    product = 1
    for i in range(2, n + 1):
        product *= i
        if product >= limit:
            return limit
    return min(product, limit)


def _output(episode: Episode, answer: Answer) -> Output:
    return Output(
        id=episode.query.id,
        shots=tuple(s.id for s in episode.shots),
        tokens=answer.tokens,
        scores=answer.scores,
        error=str(answer.error) if answer.error else "",
    )
