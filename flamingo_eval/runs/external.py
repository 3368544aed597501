"""Another program's answers -> a run like any other, with the same folders, tables, comparisons and pages.

Their settings come from the lines of `flamingo-eval export`, if the program copied them, and from the user; all others
are unknown in the record. `rerun` cannot repeat such a run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from flamingo_eval.config.specs import DemoMethod, DemoSpec, PromptSpec, ProtocolSpec, RunSpec, TaskSpec
from flamingo_eval.data.roots import DataRoot
from flamingo_eval.errors import ConfigError, DataError, UsageError
from flamingo_eval.files import printable, sha256_file, sha256_json
from flamingo_eval.prompting.episodes import Supports
from flamingo_eval.prompting.support import brought
from flamingo_eval.records import Example, Output, Prediction, Score
from flamingo_eval.runs import identity
from flamingo_eval.runs.copying import with_copying
from flamingo_eval.runs.draws import without_derived_draws
from flamingo_eval.runs.folder import CEILING, RunFolder, locked, remove_run, write_json, write_outputs
from flamingo_eval.runs.prediction_forms import Row
from flamingo_eval.runs.predictions import PARTIAL_NOTE, PredictionFile, is_exported
from flamingo_eval.runs.provenance import provenance
from flamingo_eval.runs.questions import Question, question_of
from flamingo_eval.runs.record import (
    SCHEMA,
    Counts,
    ExternalAnswers,
    RunRecord,
    Timings,
    run_json,
    scores_json,
    scores_record,
)
from flamingo_eval.runs.recorded import recorded_episodes
from flamingo_eval.runs.scores import scored, with_baselines
from flamingo_eval.runs.task_data import TaskData, fingerprint, load_data

UNKNOWN = "unknown"
NO_PROTOCOL = ProtocolSpec(UNKNOWN, "answers made by another program")
ALWAYS_UNKNOWN = ("weights", "decoding", "device", "dtype")


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """The settings of one run in the lines of an export."""

    task: str
    split: str
    protocol: str
    shots: int
    seed: int
    demos: str
    ablation: str
    limit: int | None

    @property
    def selection(self) -> dict[str, Any]:
        """Keys and values of its lines."""
        return {"task": self.task, "protocol": self.protocol, "shots": self.shots, "seed": self.seed,
                "demos": self.demos, "ablation": self.ablation, "limit": self.limit}  # fmt: skip


def exported_run(rows: Sequence[Row], task: str, shots: int | None, seed: int | None) -> ExportedRun | None:
    """The exported run of a task in a file's lines; None if the lines are not of an export.

    Raises UsageError if there are several such runs, or none with these shots and this seed.
    """
    runs = dict.fromkeys(_exported(row.values) for row in rows if is_exported(row.values))
    if not runs:
        return None
    matching = [
        run
        for run in runs
        if run.task.partition("@")[0] == task and shots in (None, run.shots) and seed in (None, run.seed)
    ]
    if len(matching) == 1:
        return matching[0]
    names = "; ".join(f"{r.task}, {r.shots} shots, seed {r.seed}, protocol {r.protocol}" for r in (matching or runs))
    if matching:
        raise UsageError(
            f"the file has answers of {len(matching)} runs: {names}.", fix="Choose one with --shots and --seed."
        )
    raise UsageError(f"the file has no answers of {task} with these --shots and --seed. It has: {names}.")


def _exported(values: Mapping[str, Any]) -> ExportedRun:
    task, split, protocol, demos, ablation = (
        str(values.get(key, "")) for key in ("task", "split", "protocol", "demos", "ablation")
    )
    limit = values.get("limit")
    limit = limit if type(limit) is int and limit > 0 else None
    seed = values.get("seed")
    return ExportedRun(task, split, protocol, values["shots"], seed if type(seed) is int else 0, demos, ablation, limit)


@dataclass(frozen=True, slots=True)
class Stated:
    """What the user states about answers made elsewhere; None: not stated."""

    name: str  # of the model, in tables
    shots: int | None = None
    seed: int | None = None
    limit: int | None = None  # of the run or export whose queries are scored
    dialect: str = ""
    protocol: str = ""  # folder of the protocol of exported prompts, if not found by its name


@dataclass(frozen=True, slots=True)
class ExternalRun:
    """A run made from another program's answers."""

    folder: RunFolder
    scores: tuple[Score, ...]
    per_example: tuple[float | None, ...]


def load_answered(task: TaskSpec, root: Path | DataRoot, split: str, ablation: str = "") -> TaskData:
    """The data for scoring answers: the query split, and the support split if present."""
    try:
        return load_data(task, root, split, media=False, ablation=ablation)
    except DataError:
        return load_data(task, root, split, with_support=False, media=False)


def external_spec(
    data: TaskData, data_name: str, stated: Stated, exported: ExportedRun | None
) -> tuple[RunSpec, tuple[str, ...]]:
    """The spec of answers made elsewhere, and which of its settings are unknown.

    Raises ConfigError if the protocol in the answered lines does not exist.
    """
    task, unknown = data.task, list(ALWAYS_UNKNOWN)
    question = Question(task, NO_PROTOCOL, PromptSpec(task.name, "", ""))
    if exported is not None:
        question = _exported_question(task, stated.protocol or exported.protocol)
    else:
        unknown += ["prompts", "demonstrations"]
        unknown += ["shots (counted as 0)"] if stated.shots is None else []
        unknown += ["seed (counted as 0)"] if stated.seed is None else []
    method = exported.demos if exported and exported.demos in get_args(DemoMethod) else "random"
    spec = RunSpec(
        task=task,
        protocol=question.protocol,
        prompt=replace(question.prompt, metric_dialect="") if stated.dialect else question.prompt,
        demos=DemoSpec(
            cast(DemoMethod, method),
            exported.shots if exported else stated.shots or 0,
            exported.seed if exported else stated.seed or 0,
            task.support_size,
            task.support_per_class,
        ),
        model=stated.name,
        model_sha256="",
        data=data_name,
        split=data.queries.name,
        device=UNKNOWN,
        dtype=UNKNOWN,
        limit=stated.limit,
        ablation=exported.ablation if exported else "",
    )
    return spec, tuple(unknown)


def _exported_question(task: TaskSpec, protocol: str) -> Question:
    try:
        return question_of(task, protocol)
    except ConfigError as error:
        raise ConfigError(
            f"the answered lines were exported with protocol '{protocol}': {error}",
            fix="Give its folder with --protocol DIR.",
        ) from error


def write_external(
    spec: RunSpec, data: TaskData, file: PredictionFile, path: Path, unknown: tuple[str, ...], out: Path
) -> ExternalRun:
    """Score the answers and write their run folder. Raises RunError if it cannot be written."""
    start = time.monotonic()
    answers = ExternalAnswers(printable(path.name), sha256_file(path), file.form, file.partial, unknown)
    queries = [e.id for e in file.examples]
    mark = sha256_json({"run": fingerprint(spec, data), "answers": answers.sha256, "queries": queries})
    folder = RunFolder(out / identity.folder_name(spec, mark))
    support = {e.id: e for e in (data.support.examples if data.support else ())}
    outputs = [_output(p, file.shots.get(p.id, ()), support) for p in file.predictions]
    record = RunRecord(
        schema=SCHEMA,
        status="complete",
        fingerprint=mark,
        task=spec.task_label,
        spec=spec,
        provenance=replace(provenance("cpu", UNKNOWN), device=UNKNOWN, device_name=None),
        inputs=dict(data.inputs),
        answers=answers,
        counts=Counts(queries=len(outputs), of=len(data.queries.examples), answered=len(outputs)),
    )
    episodes = recorded_episodes(record, {o.id: o for o in outputs}, data, Supports(data.task.name, data.support))
    examples = [episodes[e.id].query if e.id in episodes else e for e in file.examples]  # after the ablation
    shot_examples = support | {shot.id: shot for episode in episodes.values() for shot in episode.shots}
    scores, per_example = scored(outputs, examples, spec, data.queries, shot_examples)
    if not any(o.shots for o in outputs):  # a ceiling needs the shots, which are unknown
        scores = [replace(s, breakdown={k: v for k, v in s.breakdown.items() if k != CEILING}) for s in scores]
        stated = None if any(setting.startswith("shots") for setting in unknown) else spec.demos.shots
        scores = with_prescribed_shots(scores, spec.task, examples, support, stated, spec.demos.seed)
    if file.partial:
        scores = [replace(s, notes={**s.notes, PARTIAL_NOTE: file.partial}) for s in scores]
    outputs = [replace(o, score=s, media=e.media_id) for o, s, e in zip(outputs, per_example, examples, strict=True)]
    outputs, of_shots = with_copying(outputs, episodes, spec, data.queries)
    record = replace(record, timings=Timings(round(time.monotonic() - start, 3)))
    table = scores_record(spec, without_derived_draws(scores, outputs), of_shots)
    if spec.protocol == NO_PROTOCOL:
        table = replace(table, text_only_shots=None)
    with locked(folder):
        remove_run(folder)
        write_outputs(folder.outputs, outputs)
        write_json(folder.run, run_json(record))
        write_json(folder.scores, scores_json(table))
    return ExternalRun(folder, tuple(scores), tuple(per_example))


def with_prescribed_shots(
    scores: Sequence[Score],
    task: TaskSpec,
    queries: Sequence[Example],
    support: Mapping[str, Example],
    shots: int | None,
    seed: int,
    named: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Score]:
    """The scores, the first with the baselines if queries have their own shots; else unchanged.

    `named`: shots that the answers name, by query id; of other queries the benchmark says which they are. `shots`: how
    many of them, None: all.
    """
    ids = [(named or {}).get(query.id) or (brought(query) or ())[:shots] for query in queries]
    if not scores or not any(ids):
        return list(scores)
    return [with_baselines(scores[0], task.metrics[0], queries, ids, support, seed), *scores[1:]]


def _output(prediction: Prediction, shots: tuple[str, ...], support: Mapping[str, Example]) -> Output:
    """The output of one answer; shots that are not in the support split are not recorded."""
    shots = shots if all(id in support for id in shots) else ()
    return Output(
        prediction.id,
        shots,
        tokens=0,
        prediction=prediction.text,
        scores=prediction.scores,
        best=prediction.best,
    )
