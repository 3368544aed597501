"""The page's data: a sample of each task's queries, with prompts, answers and references."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.records import EndOfChunk, Episode, Example, Image, Output, Prediction, Prompt, Video, best_of
from flamingo_eval.report.recorded_prompts import Run, TaskPrompts, recorded_prompt, task_prompts
from flamingo_eval.report.tables import METRIC_TITLES
from flamingo_eval.report.thumbnails import PictureBook
from flamingo_eval.report.visible import visible

QUERY, SHOT = 0, 1  # query pictures have priority; then tasks take turns, query by query
TOP_CANDIDATES = 5
MOST_TYPES = 24  # a label with more values than this is not a type
RIGHT = 50.0  # of 100: from here on a query's own score counts as right


@dataclass(slots=True)
class Pool:
    """Values that many prompts share; each is stored once and referred to by number."""

    items: list[Any] = field(default_factory=list)
    _numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, key: Any, value: Any = None) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(key if value is None else value)
        return self._numbers[key]


def chosen_ids(runs: Sequence[Run], limit: int, task: str) -> list[str]:
    """The queries of a task on the page: those that most runs have, drawn by a key, in the first run's order."""
    times = Counter(id for run in runs for id in run.outputs)
    order = sorted(times, key=lambda i: (-times[i], Random(f"report:{task}:{i}").random()))
    first_ids = set(order[:limit])
    return [id for id in times if id in first_ids]


# ------------------------------------------------------------------------------------------------------------- prompts


@dataclass(slots=True)
class Browser:
    """Collects the data for the page's script."""

    book: PictureBook
    cards: Pool = field(default_factory=Pool)
    texts: Pool = field(default_factory=Pool)
    notes: list[str] = field(default_factory=list)
    several_protocols: bool = False

    def value(self, runs: Sequence[Run], limit: int, data: str | None, images: tuple[str, ...] = ()) -> dict[str, Any]:
        """Everything the browser shows, as plain JSON; texts are already made visible.

        `data` and `images`: where the official files and further pictures are.
        """
        self.several_protocols = len({r.spec.protocol.name for r in runs}) > 1
        tasks: list[dict[str, Any]] = []
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            groups.setdefault((run.spec.task_label, run.spec.split), []).append(run)
        for number, ((label, split), group) in enumerate(groups.items()):
            prompts, reason = task_prompts(group, data, images)
            tasks.append(self._task(number, label, split, group, limit, prompts, reason))
        return {
            "tasks": tasks,
            "cards": self.cards.items,
            "texts": self.texts.items,
            "pictures": [
                {"uri": c.uri, "about": c.about, "w": c.width, "h": c.height, "frames": c.frames, "why": c.missing}
                for c in self.book.copies()
            ],
        }

    def _task(
        self,
        number: int,
        label: str,
        split: str,
        runs: Sequence[Run],
        limit: int,
        prompts: TaskPrompts | None,
        reason: str,
    ) -> dict[str, Any]:
        ids = chosen_ids(runs, limit, label)
        if reason:
            self.notes.append(f"{label}: {reason}")
        examples = {e.id: e for e in prompts.data.queries.examples if e.id in set(ids)} if prompts else {}
        n_queries = max(r.record.counts.queries for r in runs)
        return {
            "label": visible(f"{label} ({split})"),
            "metric": METRIC_TITLES.get(runs[0].scores.headline.metric, runs[0].scores.headline.metric),
            "shown": len(ids),
            "of": n_queries,
            "why": visible(reason),
            "queries": [self._query(id, examples.get(id), index, number) for index, id in enumerate(ids)],
            "types": _types(list(examples.values())),
            "runs": [self._run(run, ids, examples, prompts, number) for run in runs],
        }

    def _query(self, id: str, example: Example | None, index: int, task: int) -> dict[str, Any]:
        if example is None:
            return {"id": visible(id, 200), "pictures": [], "text": "", "labels": [], "references": []}
        words = [example.fields[k] for k in ("question", "text") if k in example.fields]
        return {
            "id": visible(id, 200),
            "pictures": [self.book.number(m, (QUERY, index, task)) for m in example.media],
            "text": visible(" ".join(map(str, words)), 300),
            "labels": [visible(t) for t in _labels(example)],
            "references": _references(example),
        }

    def _run(
        self, run: Run, ids: Sequence[str], examples: Mapping[str, Example], prompts: TaskPrompts | None, task: int
    ) -> dict[str, Any]:
        spec = run.spec
        episodes = prompts.episodes(run, ids) if prompts else {}
        headline = run.scores.headline
        names = [spec.model, *([spec.protocol.name] if self.several_protocols else [])]
        names += run.words
        answers = []
        for index, id in enumerate(ids):
            output, example = run.outputs.get(id), _shown_query(id, episodes, examples)
            answer = None if output is None else self._answer(output, run, example, episodes, prompts, (index, task))
            if answer is not None and example is not None and example.references != examples[id].references:
                answer["references"] = _references(example)  # an ablation has changed them
            answers.append(answer)
        return {
            "series": visible(" · ".join(names), 120),
            "shots": spec.demos.shots,
            "seed": spec.demos.seed,
            "score": headline.value,
            "eoc": visible(spec.protocol.end_of_chunk, 40),
            "text_only": spec.text_only_shots if spec.demos.shots == 0 else 0,
            "answers": answers,
        }

    def _answer(
        self,
        output: Output,
        run: Run,
        example: Example | None,
        episodes: Mapping[str, Episode],
        prompts: TaskPrompts | None,
        priority: tuple[int, int],
    ) -> dict[str, Any]:
        value: dict[str, Any] = {"tokens": output.tokens}
        if output.error:
            value["error"] = visible(output.error)
        if output.score is not None and math.isfinite(output.score):
            value["score"] = round(output.score, 2)
        ok = None if output.score is None else output.score >= RIGHT
        best_index = Prediction.of(output).chosen
        if best_index is not None:
            names = (example.candidates if example else ()) or (prompts.data.queries.candidates if prompts else ())
            target = example.target if example else None
            if output.best is not None:
                value["answer"] = _name(best_index, names)
                value["top"] = [self._candidate(best_index, output.best.score, 1, names, best_index == target)]
            else:
                value["answer"], value["top"] = self._ranking(output.scores or (), names, target)
            ok = ok if target is None else best_index == target
        elif output.prediction is not None:
            value["answer"] = visible(output.prediction)
            if output.raw is not None and output.raw.strip() != output.prediction:
                value["raw"] = visible(output.raw)
        if ok is not None and not output.error:
            value["ok"] = ok
        episode = episodes.get(output.id)
        if episode is not None and prompts is not None:
            candidates = prompts.data.queries.candidates
            value["prompt"] = self._prompt(episode, output, run.spec, candidates, priority)
        return value

    def _ranking(
        self, scores: tuple[float, ...], names: Sequence[str], target: int | None
    ) -> tuple[str, list[list[Any]]]:
        """The best candidate's name, and the best few and the right one as [text number, score, rank, right]."""
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        top = order[:TOP_CANDIDATES] + ([target] if target is not None and target not in order[:5] else [])
        rows = [self._candidate(i, scores[i], order.index(i) + 1, names, i == target) for i in top if i < len(scores)]
        return _name(best_of(scores), names), rows

    def _candidate(self, i: int, score: float, rank: int, names: Sequence[str], right: bool) -> list[Any]:
        rounded = round(score, 3) if math.isfinite(score) else None
        return [self.texts.number(_name(i, names)), rounded, rank, right]

    def _prompt(
        self, episode: Episode, output: Output, spec: RunSpec, candidates: Sequence[str], priority: tuple[int, int]
    ) -> list[int] | str:
        """The prompt as numbers of cards, or the reason for its absence."""
        prompt, reason = recorded_prompt(episode, output, spec, candidates)
        if prompt is None:
            return visible(reason)
        cards = cards_of(prompt)
        picture_priority = (
            SHOT,
            spec.demos.seed,
            spec.demos.shots,
            *priority,
        )  # complete prompts of the first seed before others
        return [self._card(*card, picture_priority) for card in cards]

    def _card(
        self, media: tuple[Image | Video, ...], text: str, closed: bool, picture_priority: tuple[int, ...]
    ) -> int:
        pictures = tuple(self.book.number(m, picture_priority) for m in media)
        number = self.texts.number(visible(text))
        return self.cards.number((pictures, number, closed), [list(pictures), number, int(closed)])


def cards_of(prompt: Prompt) -> list[tuple[tuple[Image | Video, ...], str, bool]]:
    """A prompt divided at pictures and ends of chunks: media, text, and whether a chunk ends there."""
    cards: list[tuple[list[Image | Video], list[str], bool]] = [([], [], False)]
    for part in prompt.parts:
        media, text, closed = cards[-1]
        if isinstance(part, EndOfChunk):
            cards[-1] = (media, text, True)
        elif isinstance(part, str):
            if closed and not part.strip():  # white space after a chunk is part of it
                text.append(part)
            elif closed:
                cards.append(([], [part], False))
            else:
                text.append(part)
        elif isinstance(part, (Image, Video)):
            if text or closed:
                cards.append(([part], [], False))
            else:
                media.append(part)
    return [(tuple(m), "".join(t), c) for m, t, c in cards if m or t or c]


def _shown_query(id: str, episodes: Mapping[str, Episode], examples: Mapping[str, Example]) -> Example | None:
    """A query as its run asked it: an ablation may have changed what is right."""
    return episodes[id].query if id in episodes else examples.get(id)


def _references(example: Example) -> list[list[Any]]:
    """Each reference with how many annotators gave it."""
    return [[visible(text, 500), n] for text, n in Counter(example.references).items()]


def _name(candidate: int, names: Sequence[str]) -> str:
    return visible(names[candidate], 300) if candidate < len(names) else f"candidate {candidate}"


def _labels(example: Example) -> list[str]:
    return [f"{k}: {v}" for k, v in example.labels.items() if isinstance(v, str) and v and k != "pool"]


def _types(examples: Sequence[Example]) -> list[str]:
    """Labels with few values, such as `answer_type: number`, for the filter."""
    values: dict[str, dict[str, None]] = {}
    for example in examples:
        for name in _labels(example):
            values.setdefault(name.split(":")[0], {})[name] = None
    return [visible(v) for names in values.values() if 1 < len(names) <= MOST_TYPES for v in sorted(names)]
