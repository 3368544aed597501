"""Episodes of a task's train split: a few demonstrations and a query, written with the task's prompts.

The annotations of the split are read once, as for an evaluation; pictures are opened when their episode is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import find_protocol, find_task
from flamingo_eval.config.protocols import find_prompt, load_protocol
from flamingo_eval.config.specs import DemoSpec, PromptSpec, ProtocolSpec, TaskSpec
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.roots import data_root
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError
from flamingo_eval.prompting.demos import random_demos
from flamingo_eval.prompting.prompts import render
from flamingo_eval.prompting.support import Support, draw_support
from flamingo_eval.records import EndOfChunk, Episode, Example, Image, Video
from flamingo_eval.records import Part as PromptPart
from flamingo_eval.training.streams.samples import BrokenSample, Look, Part, Raw, Sample, Text

ANSWER = "\ufdd2"  # marks an answer while its prompt is written
WITHOUT_PICTURES = 2  # demonstrations of the paper's zero-shot prompts (v2 A.2)


@dataclass(frozen=True)
class TaskEpisodes:
    """Episodes of one task: `shots` is the least and the largest number of demonstrations."""

    task: str
    shots: tuple[int, int] = (0, 4)
    data: str = "sample"
    protocol: str = "flamingo"
    text_only: float = 0.0  # share of episodes without shots that begin like the paper's zero-shot prompts
    answers_only: bool = True  # the loss is on answers and their ends; else on all text
    symbols: float = 0.0  # share of the episodes with shots whose answers are exchanged for others of the split

    @cached_property
    def spec(self) -> TaskSpec:
        """The task's YAML."""
        return load_task(find_task(self.task))

    @cached_property
    def _prompts(self) -> tuple[PromptSpec, ProtocolSpec]:
        folder = find_protocol(self.protocol)
        protocol = load_protocol(folder / "protocol.yaml")
        if protocol.style != "interleaved":
            raise DataError(f"protocol '{self.protocol}' writes conversations; training reads interleaved text.")
        return load_prompt(find_prompt(folder, self.spec.prompt)), protocol

    @cached_property
    def support(self) -> Support:
        """The whole train split. Raises DataError if the task has none, or its answers are missing."""
        name = self.spec.data.support
        if name is None:
            raise DataError(f"task '{self.task}' has no train split.")
        split = load_split(self.spec, data_root(self.data, self.task), name)
        answered = [example for example in split.examples if example.answer]
        if not answered:
            raise DataError(f"task '{self.task}', split '{name}': no row has an answer.")
        return draw_support(self.task, name, answered, DemoSpec(support_size=0))

    @cached_property
    def _by_answer(self) -> Mapping[str, tuple[Example, ...]]:
        """The split by answer."""
        table: dict[str, list[Example]] = {}
        for example in self.support.examples:
            table.setdefault(example.answer, []).append(example)
        return {answer: tuple(examples) for answer, examples in table.items()}

    @property
    def shards(self) -> tuple[str, ...]:
        return (self.task,)

    def read(self, shard: int, start: int) -> Iterator[Raw]:
        del shard
        for example in self.support.examples[start:]:
            yield Raw(f"{self.task}: {example.id}", _Loader(self, example).load)

    def episode(self, query: Example, look: Look, rng: Random) -> Sample:
        """The episode of a query, its shots drawn by `rng`. Raises BrokenSample, MediaError."""
        shots = rng.randint(*self.shots)
        bare = shots == 0 and rng.random() < self.text_only
        wanted = WITHOUT_PICTURES if bare else shots
        spec = DemoSpec(shots=wanted, seed=rng.getrandbits(30), support_size=0)
        demos = random_demos(query, self.support, spec) if wanted else ()
        shown: Sequence[Example] = (query,) if bare else (*demos, query)
        told: Sequence[bool] = [True] * len(shown)
        if demos and not bare and rng.random() < self.symbols:
            shown, told = self._with_symbols(shown, rng)
        parts = [*(self._written(demos, text_only=True) if bare else ()), *self._written(shown, told)]
        opened: list[Part] = []
        for part in parts:
            if isinstance(part, (str, EndOfChunk)):
                opened += self._texts(part) if isinstance(part, str) else [part]
            elif isinstance(part, Image):
                opened.append(look.picture(part))
            elif isinstance(part, Video):
                opened.append(look.clip(part))
        return Sample(tuple(opened), "chunks")

    def _with_symbols(self, examples: Sequence[Example], rng: Random) -> tuple[list[Example], list[bool]]:
        """Each answer of an episode exchanged for another one of the split, the same throughout (Wei et al. 2023).

        So weights cannot know it, only the demonstrations before it tell. -> examples, and whether those before tell
        its answer. The last one's answer is shown before where the split has it twice.
        """
        *demos, query = examples
        others = [e for e in self._by_answer[query.answer] if e.media_id != query.media_id]
        if others and all(demo.answer != query.answer for demo in demos):
            demos[rng.randrange(len(demos))] = rng.choice(others)
        answers = [example.answer for example in (*demos, query)]
        told = [answer in answers[:i] for i, answer in enumerate(answers)]
        if not any(told):
            return list(examples), [True] * len(examples)
        different = list(dict.fromkeys(answers))
        names = dict(zip(different, rng.sample(sorted(self._by_answer), len(different)), strict=True))
        return [replace(e, answer=names[e.answer]) for e in (*demos, query)], told

    def _written(
        self, examples: Sequence[Example], learned: Sequence[bool] = (), text_only: bool = False
    ) -> list[PromptPart]:
        """The demonstrations of a prompt, the query's stem left out; `learned`: whose answers count, or all."""
        prompt, protocol = self._prompts
        marked = tuple(
            replace(e, answer=f"{ANSWER}{e.answer}{ANSWER}") if counts else e
            for e, counts in zip(examples, learned or [True] * len(examples), strict=True)
        )
        parts = list(render(Episode(examples[0], marked, text_only), prompt, protocol).parts)
        ends = [i for i, part in enumerate(parts) if isinstance(part, EndOfChunk)]
        if not ends:
            raise BrokenSample(f"prompt '{prompt.name}' has no end of chunk")
        return parts[: ends[-1] + 1]

    def _texts(self, text: str) -> list[Part]:
        """Stems and answers. A space before an answer is learned with it, as tokenizers join the two."""
        pieces: list[Part] = []
        for i, piece in enumerate(text.split(ANSWER)):
            is_answer = i % 2 == 1
            if is_answer and pieces and isinstance(before := pieces[-1], Text) and before.text.endswith(" "):
                pieces[-1] = replace(before, text=before.text[:-1])
                piece = f" {piece}"
            if piece:
                pieces.append(Text(piece, is_answer or not self.answers_only))
        return pieces


@dataclass(frozen=True, slots=True)
class _Loader:
    episodes: TaskEpisodes
    query: Example

    def load(self, look: Look, rng: Random) -> Sample:
        return self.episodes.episode(self.query, look, rng)
