"""A model of your own: it answers with the most frequent answer of the demonstrations."""

from collections import Counter
from collections.abc import Sequence

from flamingo_eval import DecodeSpec, Prompt, RankSpec


class MyModel:
    name = "majority"

    def __init__(self, default: str = "unknown") -> None:
        self.default = default

    def generate(self, prompts: Sequence[Prompt], spec: DecodeSpec) -> list[str]:
        return [self._answer(prompt) for prompt in prompts]

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], spec: RankSpec
    ) -> list[list[float]]:
        return [[float(c == self._answer(p)) for c in names] for p, names in zip(prompts, candidates, strict=True)]

    def _answer(self, prompt: Prompt) -> str:
        answers = [str(turn.parts[0]) for turn in prompt.turns if turn.role == "assistant"]
        return Counter(answers).most_common(1)[0][0] if answers else self.default
