"""Terminal output during runs: a bar or a table of replicas, and a line for each finished run."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from flamingo_eval.cli.console import console, say
from flamingo_eval.cli.progress_bar import ProgressBar
from flamingo_eval.metrics.running import RunningScore
from flamingo_eval.prompting.relabelling import LABELS_PERMUTED
from flamingo_eval.records import Episode, Media
from flamingo_eval.runs.answer import stats_of
from flamingo_eval.runs.preflight import media_of
from flamingo_eval.runs.session import Observer, Watch
from flamingo_eval.runs.similar import changed_sentence

if TYPE_CHECKING:
    from flamingo_eval.cli.pool_table import PoolTable
    from flamingo_eval.config.specs import RunSpec
    from flamingo_eval.distributed.launch import Service
    from flamingo_eval.runs.backend import Backend
    from flamingo_eval.runs.runner import FinishedRun
    from flamingo_eval.runs.runner import Progress as Answered
    from flamingo_eval.runs.task_data import TaskData

MOST_LOOKED_THROUGH = 20_000  # queries: of more, pictures are not counted beforehand


class Progress(Observer):
    """Prints the progress of a command's runs, unless quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.service: Service | None = None
        self.bar: ProgressBar | PoolTable | None = None
        self.pictures: PicturesToShow | None = None

    def say(self, line: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            say(line)

    @contextmanager
    def opened(self, opening: AbstractContextManager[Service | None], batch_size: str) -> Iterator[Backend | None]:
        """The backend of a deployment; prints model and device once it is loaded."""
        self.say("loading the model")
        with opening as service:
            self.service = service
            if service is not None:
                self.say(f"{service.title}, batch size {batch_size}")
            yield None if service is None else service.backend

    @contextmanager
    def answering(self, spec: RunSpec, data: TaskData, total: int) -> Iterator[Watch]:
        """A bar around one run, with its score so far."""
        title = _title(spec)
        known = replace(data.queries, labelled=data.queries.labelled and spec.ablation != LABELS_PERMUTED)
        running_score = RunningScore(spec.task.metrics[0], spec.prompt.metric_dialect, known)
        state = self.service.state if self.service is not None else str
        with self._bar(title, total) as self.bar:
            bar = self.bar

            def watch(progress: Answered) -> None:
                running_score.add(progress.newest)
                left = self.pictures.left(progress, self._encoded()) if self.pictures is not None else 0.0
                bar.update(len(progress.outputs), f"{running_score} {state()}".strip(), left)

            try:
                yield watch
            except KeyboardInterrupt:
                say(f"interrupted in {title}: finished queries are saved, the same command resumes")
                raise
            finally:
                self.bar = self.pictures = None

    def phase(self, name: str, done: int = 0, total: int = 0) -> None:
        """The phase of the current run."""
        if self.bar is not None:
            self.bar.phase(name, done, total)

    def prompts(self, episodes: Collection[Episode]) -> None:
        """Which pictures the run is going to show."""
        if not self.quiet and len(episodes) <= MOST_LOOKED_THROUGH:
            self.pictures = PicturesToShow(episodes, self._encoded())

    def _encoded(self) -> int:
        """How many pictures the engine has encoded; 0 if it does not count."""
        stats = stats_of(self.service.backend.engine) if self.service is not None else {}
        count = stats.get("pictures_encoded", 0)
        return count if isinstance(count, int) else 0

    def passed_over(self, spec: RunSpec, examples: Mapping[str, str]) -> None:
        """Print how many support examples were skipped, and the first of them."""
        first = next(iter(examples))
        count = f"{len(examples)} support example{'s' if len(examples) > 1 else ''}"
        self.say(f"{_title(spec)}: {count} skipped, for example {first}: {examples[first]}")

    def finished(self, record: FinishedRun) -> None:
        """A line for a finished run."""
        headline = record.scores[0]
        value = "undefined" if headline.value is None else f"{headline.value:.1f}"
        duration = "already done" if record.cached else f"{record.seconds:.1f} s"
        resumed = f", {record.resumed} queries were already answered" if record.resumed else ""
        failed = f", {record.n_failed} failed" if record.n_failed else ""
        self.say(f"{_title(record.spec)}: {value} ({duration}{resumed}{failed})")
        if record.cached and record.changed_media:
            self.say(changed_sentence(record.changed_media))

    def _bar(self, title: str, total: int) -> ProgressBar | PoolTable:
        """A table of the replicas if there are several and a terminal; otherwise a bar."""
        from flamingo_eval.cli.pool_table import WIDTH, PoolTable

        pool = self.service.pool if self.service is not None else None
        alone = pool is None or len(pool.replicas) < 2
        if pool is None or alone or self.quiet or not sys.stderr.isatty() or console(stderr=True).width < WIDTH:
            return ProgressBar(title, total, self.quiet, encoded=self._encoded)
        return PoolTable(title, total, pool)


class PicturesToShow:
    """How many pictures of a run are still to be encoded: its own count, by the share that was not in the cache."""

    def __init__(self, episodes: Collection[Episode], encoded: int) -> None:
        """`encoded`: how many the engine has encoded before."""
        self.episodes = {e.query.id: e for e in episodes}
        self.encoded_before = encoded
        self.shown: set[Media] = set()
        self.total: int | None = None

    def left(self, progress: Answered, encoded: int) -> float:
        """Pictures to come; `encoded`: how many the engine has encoded by now."""
        newest = progress.newest.id
        if self.total is None:
            rest = [e for id, e in self.episodes.items() if id == newest or id not in progress.outputs]
            self.total = sum(1 for _ in media_of(rest))
        if newest in self.episodes:
            self.shown.update(media_of([self.episodes[newest]]))
        share = min(1.0, (encoded - self.encoded_before) / len(self.shown)) if self.shown else 0.0
        return max(0, self.total - len(self.shown)) * share


class Repeating(Observer):
    """A bar for each run that is repeated."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: ProgressBar | None = None

    @contextmanager
    def answering(self, spec: RunSpec, data: TaskData, total: int) -> Iterator[Watch]:
        """A bar around one run."""
        with ProgressBar(f"{_title(spec)} again", total, self.quiet) as self.bar:
            bar = self.bar
            try:
                yield lambda progress: bar.update(len(progress.outputs))
            finally:
                self.bar = None

    def phase(self, name: str, done: int = 0, total: int = 0) -> None:
        """The phase of the current run."""
        if self.bar is not None:
            self.bar.phase(name, done, total)


def _title(spec: RunSpec) -> str:
    return f"{spec.task_label} {spec.demos.shots}-shot seed {spec.demos.seed}"
