"""One prompt at a time, for a model whose text sees all pictures before it: no shortcut of the engine holds for it.

Nobody has published such a model; the paper compares with one (v2 2.3), and so does the sample's model card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.engine import reference
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import MediaError, ModelError, PromptError
from flamingo_eval.models.loaded import LoadedModel
from flamingo_eval.records import SCORE_DECIMALS, Answer, Best, Prompt, best_of


class PlainEngine:
    """The interface of Engine, answered one prompt at a time by reference.py."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.cache = VisionCache(namespace=model.name)  # empty: nothing is cached
        self._counts = Counter(dict.fromkeys(("prompts", "prompt_tokens", "failed"), 0))

    def close(self) -> None:
        """Do nothing: there are no worker processes to end."""

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts since the engine was made."""
        return {**self._counts, "batch_size": 1, "vision_cache": self.cache.stats}

    def generate(self, prompts: Iterable[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        """The best continuation of each prompt, as Engine.generate gives it, in the order of the prompts."""
        for i, prompt in enumerate(prompts):
            yield i, self._answer(prompt, lambda p, n: Answer(n, text=reference.generate(self.model, p, spec)))

    def score(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """The score of every candidate, as Engine.score gives it, in the order of the prompts."""
        names_of = iter(candidates)  # read after each prompt: it grows while prompts are made
        for i, prompt in enumerate(prompts):
            names = next(names_of)

            def scored(p: Prompt, n: int, names: Sequence[str] = names) -> Answer:
                return Answer(n, scores=tuple(reference.score(self.model, p, names, spec)))

            yield i, self._answer(prompt, scored)

    def best(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """The best candidate of each prompt, as Engine.best gives it, from the scores of all candidates."""
        for i, answer in self.score(prompts, candidates, spec):
            if answer.scores is None:
                yield i, answer
            else:
                first = best_of([round(s, SCORE_DECIMALS) for s in answer.scores])
                yield i, Answer(answer.tokens, best=Best(first, answer.scores[first]))

    def _answer(self, prompt: Prompt, make_answer: Callable[[Prompt, int], Answer]) -> Answer:
        """The answer to one prompt, or an answer with its error."""
        try:
            tokens = self.model.count_tokens(prompt)
            answer = make_answer(prompt, tokens)
        except (PromptError, MediaError, ModelError) as error:
            self._counts["failed"] += 1
            return Answer(0, error=error)
        self._counts["prompts"] += 1
        self._counts["prompt_tokens"] += tokens
        return answer
