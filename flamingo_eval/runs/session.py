"""One loaded model, many runs: finished runs are read from disk, the others are checked, answered and scored.

A finished run needs neither its pictures nor the model; both are loaded only if a run is unfinished.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from flamingo_eval.config.specs import ModelIdentity, RunSpec
from flamingo_eval.data.usable import UsableExamples
from flamingo_eval.errors import UsageError
from flamingo_eval.prompting.demos import Ranking
from flamingo_eval.prompting.episodes import Supports, chosen_queries, episodes_by_id, episodes_of, ranked_by_model
from flamingo_eval.prompting.support import Support
from flamingo_eval.records import Episode, Example
from flamingo_eval.runs.backend import Backend
from flamingo_eval.runs.folder import RunFolder, read_outputs
from flamingo_eval.runs.identity import folder_name
from flamingo_eval.runs.plan import PlannedRun
from flamingo_eval.runs.preflight import media_shown, require_readable, require_short
from flamingo_eval.runs.runner import FinishedRun, Progress, finished, run
from flamingo_eval.runs.task_data import TaskData, fingerprint

if TYPE_CHECKING:
    from flamingo_eval.backends.shape import Shape
    from flamingo_eval.prompting.rices import Encoder

Watch: TypeAlias = Callable[[Progress], None]
OpenBackend: TypeAlias = Callable[[Sequence[PlannedRun]], AbstractContextManager[Backend | None]]


class Observer:
    """Gets the progress of a session's runs. This one is silent; subclasses print."""

    @contextmanager
    def answering(self, spec: RunSpec, data: TaskData, total: int) -> Iterator[Watch]:
        """Context of answering one run of `total` queries; yields a function that is called after each answer."""
        yield lambda _: None

    def phase(self, name: str, done: int = 0, total: int = 0) -> None:
        """The current run has entered another phase, or is at `done` of `total` in it (0: not known)."""

    def prompts(self, episodes: Collection[Episode]) -> None:
        """What is about to be answered."""

    def passed_over(self, spec: RunSpec, examples: Mapping[str, str]) -> None:
        """Support examples were skipped; `examples`: the reason, by id."""

    def say(self, line: str) -> None:
        """A line about the run that is about to start."""

    def finished(self, record: FinishedRun) -> None:
        """A run is complete; `record.cached`: it was complete before."""


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded model, the folder for its runs, and an observer. `settings` go into the record and change no output."""

    backend: Backend
    out: Path
    fresh: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    observer: Observer = field(default_factory=Observer)

    def run(self, spec: RunSpec, data: TaskData, supports: Supports | None = None) -> FinishedRun:
        """Answer and score one run, unless it is complete. Its episodes are in memory only during the run.

        Raises UsageError if the model has to choose the shots and cannot, and the errors of runner.run.
        """
        record = None if self.fresh else _finished(spec, data, self.out)
        if record is not None:
            self.observer.finished(record)
            return record
        queries = chosen_queries(data.queries, spec.task.name, spec.limit, spec.ablation)
        with self.observer.answering(spec, data, len(queries)) as on_progress:
            usable = UsableExamples(self.backend.check) if spec.on_error == "skip" else None
            support = (supports or Supports(spec.task.name, data.support, data.given)).of(spec.demos)
            if support is not None and support.usable is not usable:
                support = replace(support, usable=usable)
            self.observer.phase("choosing demonstrations")
            episodes = ranked_episodes(self.backend, spec, data, queries, support, usable, self.observer.phase)
            self.observer.prompts(episodes.values())
            passed_over = usable.taken() if usable is not None else {}
            if passed_over:
                self.observer.passed_over(spec, passed_over)
            record = run(
                spec,
                data,
                self.backend.engine,
                self.out,
                episodes=episodes,
                on_progress=on_progress,
                fresh=self.fresh,
                settings=self.settings,
                model=self.backend.record,
                passed_over=passed_over,
                say=self.observer.say,
                phase=self.observer.phase,
            )
        self.observer.finished(record)
        return record


def ranked_episodes(
    backend: Backend,
    spec: RunSpec,
    data: TaskData,
    queries: Sequence[Example],
    support: Support | None,
    usable: UsableExamples | None,
    phase: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
) -> Mapping[str, Episode]:
    """The episodes of a run by query id, the demonstrations chosen by the model if the run requires it (RICES).

    `usable`: what cannot be shown is left out (--on-error skip). `phase` is called with the progress of the
    encoding. Raises UsageError for a model that cannot choose.
    """
    if usable is None or not ranked_by_model(spec) or support is None:
        return episodes_by_id(spec, queries, support, _ranking(backend, spec, data, phase))
    # unreadable examples have no features: such support rows are skipped, such queries fail without shots
    readable = [q for q in queries if not usable.unreadable(q)]
    examples = tuple(e for e in data.support.examples if usable(e)) if data.support is not None else ()
    split = None if data.support is None else replace(data.support, examples=examples)
    part = replace(data, queries=replace(data.queries, examples=tuple(readable)), support=split)
    episodes = {e.query.id: e for e in episodes_of(spec, readable, support, _ranking(backend, spec, part, phase))}
    return {q.id: episodes.get(q.id, Episode(q, ())) for q in queries}


def _ranking(backend: Backend, spec: RunSpec, data: TaskData, phase: Callable[[str, int, int], None]) -> Ranking | None:
    if not ranked_by_model(spec):
        return None
    if backend.encoder is None:
        raise UsageError(
            f"{spec.demos.method}: {spec.model} has no features for choosing demonstrations.",
            fix="Use those of another model: --features-of MODEL.",
        )
    from flamingo_eval.prompting.rices import ranking_of

    return ranking_of(spec, data, backend.encoder(), lambda done, total: phase("encoding for RICES", done, total))


def run_all(
    runs: Sequence[PlannedRun],
    open_backend: OpenBackend,
    out: Path,
    *,
    identity: ModelIdentity | None = None,
    shape: Callable[[], Shape] | None = None,
    fresh: bool = False,
    settings: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    features: Callable[[], Encoder] | None = None,
    require_writable: Callable[[], None] = lambda: None,
) -> list[FinishedRun] | None:
    """The records of all runs, in their order; None in a process that only answers for another one (torchrun).

    `identity`: the model's, if it is known before the model is loaded: finished runs are then found first, and of
    interrupted ones the answered queries need no pictures. `shape`: what prompts are measured with, if they are.
    `features`: the encoder that chooses demonstrations (RICES) in the place of the model's own, made when needed.
    `open_backend` is entered with the runs that are left; not at all if there are none.
    `require_writable` is called first if runs are left; finished ones need no place to write.
    Raises MediaError, PromptError before it, and what Session.run raises.
    """
    watcher = observer or Observer()
    records: dict[int, FinishedRun] = {}
    if identity is not None and not fresh:
        for i, run in enumerate(runs):
            record = _finished(run.spec(identity), run.data, out)
            if record is not None:
                records[i] = record
                watcher.finished(record)
    unfinished = [run for i, run in enumerate(runs) if i not in records]
    if unfinished:
        require_writable()
        _preflight(unfinished, identity if not fresh else None, out, shape)
        with open_backend(unfinished) as backend:
            if backend is None:
                return None
            if backend.require is not None:
                backend.require(tuple(dict.fromkeys(r.task.name for r in unfinished if not r.generates)))
            if features is not None:
                backend = replace(backend, encoder=cache(features))
            session = Session(backend, out, fresh, settings or {}, watcher)
            for i, run in enumerate(runs):
                if i not in records:
                    records[i] = session.run(run.spec(backend.identity), run.data, run.supports)
    return [records[i] for i in range(len(runs))]


def _folder(spec: RunSpec, data: TaskData, out: Path) -> RunFolder:
    return RunFolder(out / folder_name(spec, fingerprint(spec, data)))


def _finished(spec: RunSpec, data: TaskData, out: Path) -> FinishedRun | None:
    return finished(_folder(spec, data, out), spec, data.root)


def _preflight(
    runs: Sequence[PlannedRun],
    identity: ModelIdentity | None,
    out: Path,
    shape: Callable[[], Shape] | None,
) -> None:
    """Checks before any weights are loaded."""
    require_readable(
        media for run in runs if run.on_error != "skip" for media in media_shown(run, _answered(run, identity, out))
    )
    if shape is not None:
        require_short(runs, shape())


def _answered(run: PlannedRun, identity: ModelIdentity | None, out: Path) -> frozenset[str]:
    """Ids of the answered queries of an interrupted run."""
    if identity is None:
        return frozenset()
    outputs, _ = read_outputs(_folder(run.spec(identity), run.data, out).outputs)
    return frozenset(output.id for output in outputs)
