"""What runs would compute: queries, tokens, operations (`run --dry-run`).

Every picture is encoded once, every prompt is read once, and beams and candidates cost only their own tokens. These are
the engine's operations, so they are a lower bound for any machine. Decoding is counted to its full length.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flamingo_eval.config.specs import Asked
from flamingo_eval.engine.trie import TokenTrie
from flamingo_eval.prompting.prompts import candidate_text, render
from flamingo_eval.records import Media, Prompt, Video
from flamingo_eval.runs.answer import shot_orders
from flamingo_eval.runs.plan import PlannedRun

if TYPE_CHECKING:
    import torch

    from flamingo_eval.backends.shape import Shape
    from flamingo_eval.models.flops import ModelFlops
    from flamingo_eval.models.tokenizer import Tokenizer

LOOKED_AT = 200  # queries, per task and number of shots, whose prompts are rendered and counted
CHARACTERS_A_TOKEN = 4  # of English text, about; used without a tokenizer


@dataclass(frozen=True, slots=True)
class Work:
    """A task at one number of shots, over all seeds. `official` is the split's published size, None if unknown.

    `tokens` is the mean over the sampled prompts, `longest` the maximum; `flops` of all prompts, without pictures.
    """

    task: str
    shots: int
    seeds: int
    queries: int
    official: int | None
    prompts: int
    tokens: float
    longest: int
    candidates: float
    flops: float

    @property
    def scale(self) -> float:
        """The size of the official split divided by the number of queries here."""
        return self.official / self.queries if self.official else 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """All work of a command. Each picture and clip counts once, however often prompts show it."""

    works: tuple[Work, ...]
    pictures: int
    clips: int
    picture_flops: float  # of all pictures and clips
    official_picture_flops: float  # had the queries the official number

    @property
    def flops(self) -> float:
        """Operations of all work."""
        return sum(w.flops for w in self.works) + self.picture_flops

    @property
    def official_flops(self) -> float:
        """Operations at the official number of queries, with prompts like these."""
        return sum(w.flops * w.scale for w in self.works) + self.official_picture_flops


class Reader:
    """Counts tokens, with the model's tokenizer or without one."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self.tokenizer = tokenizer

    def prompt(self, prompt: Prompt) -> int:
        """Tokens of a prompt, pictures' tags and the begin token included."""
        if self.tokenizer is not None:
            return len(self.tokenizer.encode(prompt).ids)
        text = sum(len(p) for p in prompt.parts if isinstance(p, str))
        tags = sum(1 for p in prompt.parts if not isinstance(p, str))
        return 1 + tags + round(text / CHARACTERS_A_TOKEN)

    def tree(self, names: Sequence[str], spec: Asked) -> int:
        """Tokens that have to be read to rank candidates: inner nodes of their tree; without a tokenizer, all.

        To find only the best candidate, at least its own nodes; as it is unknown, those of the shortest are counted.
        """
        texts = [candidate_text(name, spec.prompt) for name in names]
        best = spec.rank.wanted == "best"
        if self.tokenizer is None:
            lengths = [max(1, round(len(t) / CHARACTERS_A_TOKEN)) for t in texts]
            return min(lengths) - 1 if best else sum(lengths)
        end = self.tokenizer.encode_text(self.tokenizer.config.end_of_chunk) if spec.rank.end_of_chunk else ()
        rows = [self.tokenizer.encode_text(t) + end for t in texts]
        return min(map(len, rows)) - 1 if best else len(TokenTrie.of(rows).inner)


def estimate(runs: Sequence[PlannedRun], flops: ModelFlops, reader: Reader, n_sampled: int = LOOKED_AT) -> Estimate:
    """Count the work of some runs, without opening pictures or making a model."""
    groups: dict[tuple[str, int], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.task_label, run.demos.shots), []).append(run)
    all_media: dict[Media, None] = {}
    official = 0.0
    works = []
    media_by_task: dict[str, set[Media]] = {}
    for (task, _), group in groups.items():
        work = _work(group, flops, reader, n_sampled)
        works.append(work)
        task_media = media_by_task.setdefault(task, set())
        for media, is_query in _media(group):
            if media in task_media:
                continue
            task_media.add(media)
            if media not in all_media:
                all_media[media] = None
                official += (work.scale if is_query else 1.0) * _picture_flops(media, flops)
    clips = sum(isinstance(m, Video) for m in all_media)
    flops_here = sum(_picture_flops(m, flops) for m in all_media)
    return Estimate(tuple(works), len(all_media) - clips, clips, flops_here, official)


def _drawn(run: PlannedRun) -> PlannedRun:
    """The run; if the model would choose the shots (RICES), one with random shots, whose prompts are as long."""
    return replace(run, demos=replace(run.demos, method="random")) if run.ranked_by_model else run


def _media(runs: Iterable[PlannedRun]) -> Iterable[tuple[Media, bool]]:
    for run in runs:
        for episode in _drawn(run).episodes():
            yield from ((m, True) for m in episode.query.media)
            yield from ((m, False) for shot in episode.shots for m in shot.media)


def _picture_flops(media: Media, flops: ModelFlops) -> int:
    return flops.picture(flops.config.preprocess.frames if isinstance(media, Video) else 1)


def _work(group: Sequence[PlannedRun], flops: ModelFlops, reader: Reader, n_sampled: int) -> Work:
    """The work of the first seed's prompts, times the number of seeds."""
    run = group[0]
    sample = _drawn(run).episodes(every=max(1, len(run.queries) // n_sampled))
    trees: dict[tuple[str, ...], int] = {}
    lengths: list[int] = []
    costs: list[float] = []
    candidates: list[int] = []
    orders = 1
    for episode in sample:
        prompt = render(episode, run.prompt, run.protocol, run.data.queries.candidates)
        length = reader.prompt(prompt)
        lengths.append(length)
        reading = flops.reading(length) + len(prompt.media) * flops.visual_keys
        answer = flops.next_token(length)
        if run.generates:
            costs.append(reading + run.decode.beams * run.decode.max_new_tokens * answer)
            continue
        names = episode.query.candidates or run.data.queries.candidates
        if names not in trees:
            trees[names] = reader.tree(names, run)
        candidates.append(len(names))
        orders = len(shot_orders(episode, run))
        costs.append(orders * (reading + trees[names] * answer))
    seeds, queries = len(group), len(run.queries)
    is_full_run = run.limit is None and not run.ablation
    return Work(
        task=run.task_label,
        shots=run.demos.shots,
        seeds=seeds,
        queries=queries,
        official=run.task.data.counts.get(run.data.queries.name) if is_full_run else None,
        prompts=queries * seeds * orders,
        tokens=statistics.fmean(lengths),
        longest=max(lengths),
        candidates=statistics.fmean(candidates) if candidates else 0.0,
        flops=statistics.fmean(costs) * queries * seeds,
    )


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A task at one number of shots, over all seeds: prompts and their tokens, including pictures."""

    task: str
    shots: int
    seeds: int
    queries: int
    prompts: int
    tokens: float  # mean over the prompts looked at
    longest: int
    candidates: float


def token_counts(runs: Sequence[PlannedRun], shape: Shape, n_sampled: int = 16) -> list[TokenCount]:
    """Token counts, for models whose operations are not counted. Opens pictures of sampled prompts, makes no model."""
    groups: dict[tuple[str, int], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.task_label, run.demos.shots), []).append(run)
    counts = []
    for (task, shots), group in groups.items():
        run = group[0]
        episodes = list(_drawn(run).episodes(every=max(1, len(run.queries) // n_sampled)))
        split = run.data.queries.candidates
        lengths = [shape.count_tokens(render(e, run.prompt, run.protocol, split)) for e in episodes]
        ranks = not run.generates
        names = [len(e.query.candidates or run.data.queries.candidates) for e in episodes] if ranks else [0]
        orders = max(len(shot_orders(e, run)) for e in episodes) if ranks else 1
        counts.append(
            TokenCount(
                task,
                shots,
                len(group),
                len(run.queries),
                len(run.queries) * len(group) * orders,
                statistics.fmean(lengths),
                max(lengths),
                statistics.fmean(names),
            )
        )
    return counts


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int = 1536, repeats: int = 5) -> float:
    """Operations a second of a product of two `size` x `size` matrices, the median of some."""
    import torch

    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        torch.mm(a, b)
        wait()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[1:])
