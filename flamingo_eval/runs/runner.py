"""The flow of one run in one place: examples, episodes, prompts, outputs, scores, record (docs/architecture.md).

No stage changes an earlier one. Finished queries are on disk at once, and the same command resumes an interrupted run:
episodes do not depend on anything drawn during a run, so remaining queries get the same answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data import layouts
from flamingo_eval.data.roots import DataRoot
from flamingo_eval.data.usable import digest_of
from flamingo_eval.errors import RunError
from flamingo_eval.prompting.demos import Ranking
from flamingo_eval.prompting.episodes import Supports, chosen_queries, episodes_by_id, without
from flamingo_eval.records import Episode, Output, Prediction, Score, Split
from flamingo_eval.runs import identity
from flamingo_eval.runs.answer import Engine, OutputSource, answer, stats_of
from flamingo_eval.runs.copying import with_copying
from flamingo_eval.runs.draws import without_derived_draws
from flamingo_eval.runs.folder import (
    RunFolder,
    appending,
    locked,
    output_line,
    read_outputs,
    remove_run,
    write_json,
    write_outputs,
)
from flamingo_eval.runs.media_index import changed_media, indexing
from flamingo_eval.runs.preflight import check_wanted
from flamingo_eval.runs.provenance import provenance
from flamingo_eval.runs.record import (
    CHECKPOINT,
    SCHEMA,
    Counts,
    PassedOver,
    RunRecord,
    Timings,
    read_run,
    read_scores,
    run_json,
    scores_json,
    scores_record,
)
from flamingo_eval.runs.scores import scored
from flamingo_eval.runs.similar import changed_sentence, why_new
from flamingo_eval.runs.submission import FORMATS, write_submission
from flamingo_eval.runs.task_data import TaskData, fingerprint


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run."""

    total: int
    outputs: Mapping[str, Output]  # by query id, including those of earlier processes
    newest: Output


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run: its folder and scores."""

    folder: RunFolder
    spec: RunSpec
    scores: tuple[Score, ...]
    n: int
    n_failed: int
    seconds: float
    resumed: int = 0  # queries that were already answered when this process started
    cached: bool = False  # True: the run was complete before, nothing was computed
    changed_media: tuple[str, ...] = ()  # pictures and clips whose size or time has changed since they were used


def run(
    spec: RunSpec,
    data: TaskData,
    engine: Engine | OutputSource,
    out: Path,
    *,
    episodes: Mapping[str, Episode] | Sequence[Episode] | None = None,
    ranking: Ranking | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    fresh: bool = False,
    settings: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    passed_over: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
    phase: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
) -> FinishedRun:
    """Answer and score one task at one number of shots and one seed, and write its folder.

    `episodes`, by query id if they are a mapping, are what the run asks; without them they follow from the spec.
    `settings` is what does not change the outputs but belongs in the record (batch size, workers); `model` is what the
    record says of the model beyond the spec; `passed_over` are the support examples that could not be shown
    (--on-error skip). `say` gets a line if there is a similar run, or if pictures of answered queries have
    changed since; `phase` the name of each phase (answering, scoring, writing), with its progress. Raises RunError if
    another process writes the same run, or if other examples were passed over when it began; whatever stops it, the
    same call resumes it.
    """
    check_wanted(spec.task, spec.rank)
    start, stats_before = time.monotonic(), stats_of(engine)
    mark = fingerprint(spec, data)
    folder = RunFolder(out / identity.folder_name(spec, mark))
    with locked(folder):
        if fresh:
            remove_run(folder)
        elif (record_before := finished(folder, spec, data.root)) is not None:
            return record_before
        if episodes is None:
            queries = chosen_queries(data.queries, spec.task.name, spec.limit, spec.ablation)
            supports = Supports(spec.task.name, data.support, data.given)
            episodes = episodes_by_id(spec, queries, supports.of(spec.demos), ranking)
        elif not isinstance(episodes, Mapping):
            episodes = {e.query.id: e for e in episodes}
        answered, valid_bytes = read_outputs(folder.outputs)
        record = replace(
            _opening(spec, data, mark, len(episodes), settings or {}, model or {}),
            passed_over=_passed_over(folder, passed_over or {}, resumed=bool(answered)),
        )
        changed = tuple(changed_media(folder.path, data.root)) if answered else ()
        for line in (changed_sentence(changed), "" if folder.run.is_file() else why_new(folder, record)):
            if line:
                say(line)
        write_json(folder.run, run_json(record))
        outputs = {o.id: o for o in answered}
        unanswered = without(episodes, outputs)
        phase("answering", len(outputs), len(episodes))
        with appending(folder.outputs, valid_bytes) as file, indexing(folder.path, data.root) as note:
            for output in _outputs(unanswered.values(), spec, data.queries, engine):
                if output.error and spec.on_error == "stop":
                    reason = output.error.removeprefix(f"{output.id}: ")  # the engine's text also names the query
                    raise RunError(f"{spec.task.name}, query {output.id}: {reason}", fix=SKIP_HINT)
                outputs[output.id] = output
                episode = unanswered[output.id]
                note((episode.query, *episode.shots))
                file.write(output_line(output))
                file.flush()
                on_progress(Progress(len(episodes), outputs, output))
        counts = since(stats_before, stats_of(engine))
        return _close(folder, spec, data, episodes, outputs, record, counts, start, len(answered), phase)


SKIP_HINT = (
    "Fix the file, or run with --on-error skip: demonstrations that cannot be shown are replaced by the next ones, and "
    "failed queries are counted and listed, never scored."
)


def _passed_over(folder: RunFolder, examples: Mapping[str, str], resumed: bool) -> PassedOver | None:
    """The record of demonstrations that were skipped. Raises RunError if a resumed run had skipped others."""
    value = PassedOver(len(examples), digest_of(examples)) if examples else None
    if resumed and folder.run.is_file() and read_run(folder.run).passed_over != value:
        raise RunError(
            f"{folder.path}: usable demonstrations have changed since this run started (files added or removed).",
            fix="Restore the files, or start again with --fresh.",
        )
    return value


def _opening(
    spec: RunSpec, data: TaskData, mark: str, n: int, settings: Mapping[str, Any], model: Mapping[str, Any]
) -> RunRecord:
    return RunRecord(
        schema=SCHEMA,
        status="running",
        fingerprint=mark,
        task=spec.task_label,
        spec=spec,
        settings=dict(settings),
        model=dict(model),
        provenance=provenance(spec.device, spec.dtype),
        inputs={CHECKPOINT: spec.model_sha256, **data.inputs},
        counts=Counts(queries=n, of=len(data.queries.examples)),
    )


def _close(
    folder: RunFolder,
    spec: RunSpec,
    data: TaskData,
    by_id: Mapping[str, Episode],
    outputs: Mapping[str, Output],
    record: RunRecord,
    counts: Mapping[str, Any],
    start: float,
    resumed: int,
    phase: Callable[[str, int, int], None],
) -> FinishedRun:
    """Score the answers and write the three files in their final form."""
    in_order = [outputs[id] for id in by_id]
    if in_order and all(o.error for o in in_order):
        folder.outputs.unlink(missing_ok=True)  # do not resume: the same command tries all queries again
        raise RunError(
            f"{spec.task.name}: all {len(in_order)} queries failed, so there is no score.\n{in_order[0].error}"
        )
    episodes = list(by_id.values())
    examples = [e.query for e in episodes]
    shots = {s.id: s for e in episodes for s in e.shots}
    scores, per_example = scored(in_order, examples, spec, data.queries, shots, lambda name: phase(name, 0, 0))
    phase("writing", 0, 0)
    in_order = [replace(o, score=s, media=e.media_id) for o, s, e in zip(in_order, per_example, examples, strict=True)]
    in_order, of_shots = with_copying(in_order, {e.query.id: e for e in episodes}, spec, data.queries)
    write_outputs(folder.outputs, in_order)
    if not data.queries.labelled:
        _submit(folder, data, in_order)
    seconds = time.monotonic() - start
    failed = [o for o in in_order if o.error]
    record = replace(
        record,
        status="complete",
        counts=replace(record.counts, answered=len(in_order) - len(failed), failed=len(failed), resumed=resumed),
        timings=Timings(round(seconds, 3)),
        engine=counts,
    )
    write_json(folder.run, run_json(record))
    stored_scores = without_derived_draws(scores, in_order)
    write_json(folder.scores, scores_json(scores_record(spec, stored_scores, of_shots)))
    return FinishedRun(folder, spec, stored_scores, len(in_order), len(failed), seconds, resumed)


def _submit(folder: RunFolder, data: TaskData, outputs: Sequence[Output]) -> None:
    """submission.json for the evaluation server, if its format is known; unanswered queries get an empty answer.

    Servers require every query of a split; VQAv2's requires all of `test`, also for the test-dev phase.
    """
    if data.task.data.layout not in FORMATS:
        return
    predictions = {o.id: Prediction.of(o) for o in outputs if not o.error}
    part = replace(data.queries, examples=tuple(e for e in data.queries.examples if e.id in predictions))
    full_split = data.queries
    if full_split.name == "test-dev" and "test" in layouts.splits_on_disk(data.task, data.root):
        full_split = layouts.load_split(data.task, data.root, "test", media=False)
    unanswered = full_split if len(full_split.examples) > len(part.examples) else None
    write_submission(
        data.task, part, list(predictions.values()), folder.path / "submission.json", unanswered=unanswered
    )


def _outputs(
    episodes: Collection[Episode], spec: RunSpec, split: Split, engine: Engine | OutputSource
) -> Iterator[Output]:
    if isinstance(engine, OutputSource):
        return engine.outputs(episodes, spec, split)
    return answer(episodes, spec, split, engine)


def finished(folder: RunFolder, spec: RunSpec, root: Path | DataRoot) -> FinishedRun | None:
    """A run that is complete on disk; None if queries are unanswered, or if missing scores can be computed now.

    `root`: today's folder of the run's data, to detect changed pictures.
    """
    if not folder.scores.is_file():
        return None
    record, scores = read_run(folder.run), read_scores(folder.scores)
    if any(s.unscored for s in scores.scores):
        return None
    counts, seconds = record.counts, record.timings.seconds or 0.0
    n = counts.answered + counts.failed
    changed = tuple(changed_media(folder.path, root))
    return FinishedRun(folder, spec, scores.scores, n, counts.failed, seconds, cached=True, changed_media=changed)


STATES = ("batch_size", "replicas")  # states, not counts
HITS, MISSES, HIT_RATE = ("hits_memory", "hits_disk"), "misses", "hit_rate"


def since(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The difference of an engine's counts; shares are computed from it, states are copied."""
    difference: dict[str, Any] = {}
    for name, value in now.items():
        if isinstance(value, Mapping):
            difference[name] = since(before.get(name, {}), value)
        elif name in STATES or not isinstance(value, int):
            difference[name] = value
        else:
            difference[name] = value - before.get(name, 0)
    if HIT_RATE in difference:
        hits = sum(difference[name] for name in HITS)
        lookups = hits + difference[MISSES]
        difference[HIT_RATE] = round(hits / lookups, 6) if lookups else 0.0
    return difference
