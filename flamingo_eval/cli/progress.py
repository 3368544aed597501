"""What a terminal shows while runs are answered: a bar or a table of replicas, and a line for each finished run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from flamingo_eval.cli.console import ProgressBar, console, say
from flamingo_eval.metrics.running import RunningScore
from flamingo_eval.runs.session import Observer, Watch
from flamingo_eval.runs.similar import changed_sentence

if TYPE_CHECKING:
    from flamingo_eval.cli.pool_table import PoolTable
    from flamingo_eval.config.specs import RunSpec
    from flamingo_eval.distributed.launch import Service
    from flamingo_eval.runs.backend import Backend
    from flamingo_eval.runs.runner import FinishedRun, TaskData
    from flamingo_eval.runs.runner import Progress as Answered


class Progress(Observer):
    """Prints how the runs of a command go on; nothing where it is to be quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.service: Service | None = None

    def say(self, line: str) -> None:
        """A line for people."""
        if not self.quiet:
            say(line)

    @contextmanager
    def opened(self, opening: AbstractContextManager[Service | None], batch_size: str) -> Iterator[Backend | None]:
        """The backend of a deployment; says which model and device once it is loaded."""
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
        running_score = RunningScore(spec.task.metrics[0], spec.prompt.metric_dialect, data.queries)
        state = self.service.state if self.service is not None else str
        with self._bar(title, total) as bar:

            def watch(progress: Answered) -> None:
                running_score.add(progress.newest)
                bar.update(len(progress.outputs), f"{running_score} {state()}".rstrip())

            try:
                yield watch
            except KeyboardInterrupt:
                say(f"interrupted in {title}: finished queries are kept, the same command resumes there")
                raise

    def passed_over(self, spec: RunSpec, examples: Mapping[str, str]) -> None:
        """How many support examples gave way to others, and the first of them."""
        first = next(iter(examples))
        count = f"{len(examples)} support example{'s' if len(examples) > 1 else ''}"
        self.say(f"{_title(spec)}: {count} passed over, for example {first}: {examples[first]}")

    def finished(self, record: FinishedRun) -> None:
        """A line for a finished run."""
        headline = record.scores[0]
        value = "undefined" if headline.value is None else f"{headline.value:.1f}"
        duration = "already done" if record.cached else f"{record.seconds:.1f} s"
        resumed = f", {record.resumed} queries were done before" if record.resumed else ""
        failed = f", {record.n_failed} failed" if record.n_failed else ""
        self.say(f"{_title(record.spec)}: {value} ({duration}{resumed}{failed})")
        if record.cached and record.changed_media:
            self.say(changed_sentence(record.changed_media))

    def _bar(self, title: str, total: int) -> ProgressBar | PoolTable:
        """A table of the replicas where there are several and somebody can see it."""
        from flamingo_eval.cli.pool_table import WIDTH, PoolTable

        pool = self.service.pool if self.service is not None else None
        alone = pool is None or len(pool.replicas) < 2
        if pool is None or alone or self.quiet or not sys.stderr.isatty() or console(stderr=True).width < WIDTH:
            return ProgressBar(title, total, self.quiet)
        return PoolTable(title, total, pool)


class Repeating(Observer):
    """A bar for each run that is repeated."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    @contextmanager
    def answering(self, spec: RunSpec, data: TaskData, total: int) -> Iterator[Watch]:
        """A bar around one run."""
        with ProgressBar(f"{spec.task_label} again", total, self.quiet) as bar:
            yield lambda progress: bar.update(len(progress.outputs))


def _title(spec: RunSpec) -> str:
    return f"{spec.task_label} {spec.demos.shots}-shot seed {spec.demos.seed}"
