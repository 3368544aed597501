"""run.json and scores.json as dataclasses. Written by `asdict`, read by schema.py; schema 1 is converted.

Schema 2 (this one): bootstrap draws are in scores.json only if they do not follow from outputs.jsonl
(runs/draws.py), and default settings of a spec are written like all others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.errors import RunError, problems_in
from flamingo_eval.files import read_json_object
from flamingo_eval.records import Score
from flamingo_eval.runs.identity import resolved_names
from flamingo_eval.schema import JsonTree, try_read

SCHEMA = 2
READABLE = (1, 2)
CHECKPOINT = "checkpoint"  # key of the checkpoint's sha256 among the inputs
LARGEST_RECORD = 64 * 2**20  # bytes of a run.json or scores.json that is read

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run was made."""

    flamingo_eval: str = ""  # version of this package
    commit: str | None = None  # of the checkout; None: an installed wheel
    dirty: bool | None = None  # whether the checkout had changes that are not committed
    python: str = ""  # version
    platform: str = ""  # system and machine: `Linux x86_64`
    device: str = ""  # cpu or cuda
    device_name: str | None = None  # of the GPU or the processor
    dtype: str = ""  # of the weights
    packages: Mapping[str, str] = field(default_factory=dict)  # versions of those that a score can depend on


@dataclass(frozen=True, slots=True)
class Counts:
    """How many queries a run has, and what became of them."""

    queries: int = 0  # of this run, after --limit
    of: int = 0  # in the split
    answered: int = 0
    failed: int = 0  # counted and listed, never scored
    resumed: int = 0  # answered before the process that finished the run


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Support examples that could not be shown and were replaced by others (--on-error skip)."""

    count: int
    digest: str  # of their ids


@dataclass(frozen=True, slots=True)
class ExternalAnswers:
    """The source of answers that another program made (`score --name`)."""

    file: str  # its name
    sha256: str
    form: str  # what was read from it
    partial: str = ""  # how many queries are answered, if some are not
    unknown: tuple[str, ...] = ()  # settings that our own runs would have


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock time of the process that finished a run."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """run.json: the settings, inputs, machine and counts of a run."""

    schema: int
    status: Literal["running", "complete"]
    fingerprint: str  # sha256 of what decides the outputs (identity.py); its beginning is in the folder's name
    task: str  # the task's label: `vqav2`, `vqav2@sample`
    spec: RunSpec  # every choice, defaults included
    settings: Mapping[str, Any] = field(default_factory=dict)  # settings that do not change outputs: batch size
    model: Mapping[str, Any] = field(default_factory=dict)  # a backend's further entries about its model
    provenance: Provenance = field(default_factory=Provenance)
    inputs: Mapping[str, str] = field(default_factory=dict)  # sha256 of the checkpoint and of each annotation file
    passed_over: PassedOver | None = None  # None: every drawn demonstration was shown
    answers: ExternalAnswers | None = None  # None: made by flamingo-eval
    counts: Counts = field(default_factory=Counts)
    timings: Timings = field(default_factory=Timings)
    engine: Mapping[str, Any] = field(default_factory=dict)  # the engine's counts: batches, tokens, cache hits

    def __post_init__(self) -> None:
        if self.spec.demos.shots < 0:
            raise ValueError(f"spec.demos.shots: expected 0 or more, got {self.spec.demos.shots}")

    @property
    def files(self) -> dict[str, str]:
        """sha256 of the annotation files, by name."""
        return {name: digest for name, digest in self.inputs.items() if name != CHECKPOINT}


@dataclass(frozen=True, slots=True)
class ScoresRecord:
    """scores.json: the scores and what they measure; no times, so that repetitions can be compared."""

    schema: int
    task: str
    split: str
    model: str
    protocol: str
    shots: int
    demos: str  # the method that chose the demonstrations
    seed: int
    ablation: str
    scores: tuple[Score, ...]  # the first is the headline
    text_only_shots: int | None = None  # demonstrations without pictures, at zero shots
    # What follows from the shots' answers under a metric that no query has a share of (metrics/copying.py): the score
    # of always saying one of them, and that of the queries whose answer none of them is
    copying: Mapping[str, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.scores:
            raise ValueError("scores: expected at least one score, got none")
        for name, count in (("shots", self.shots), ("text_only_shots", self.text_only_shots or 0)):
            if count < 0:
                raise ValueError(f"{name}: expected 0 or more, got {count}")

    @property
    def headline(self) -> Score:
        """The score of the task's first metric."""
        return self.scores[0]


def scores_record(spec: RunSpec, scores: tuple[Score, ...], copying: Mapping[str, Score] | None = None) -> ScoresRecord:
    """The scores of a run."""
    return ScoresRecord(
        schema=SCHEMA,
        task=spec.task_label,
        split=spec.split,
        model=spec.model,
        protocol=spec.protocol.name,
        shots=spec.demos.shots,
        demos=spec.demos.method,
        seed=spec.demos.seed,
        ablation=spec.ablation,
        scores=scores,
        text_only_shots=spec.text_only_shots if spec.demos.shots == 0 else 0,
        copying=copying or {},
    )


def spec_json(spec: RunSpec) -> dict[str, Any]:
    """The resolved spec with all defaults as plain JSON, plus the resolved values, for readers."""
    value = dataclasses.asdict(spec)
    for name in resolved_names(RunSpec):
        part = getattr(spec, name)
        value[name] = dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part  # type: ignore[arg-type]
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def run_json(record: RunRecord) -> dict[str, Any]:
    """A run record as plain JSON."""
    value = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)} | {
        "spec": spec_json(record.spec),
        "provenance": dataclasses.asdict(record.provenance),
        "passed_over": dataclasses.asdict(record.passed_over) if record.passed_over else None,
        "answers": json.loads(json.dumps(dataclasses.asdict(record.answers))) if record.answers else None,
        "counts": dataclasses.asdict(record.counts),
        "timings": dataclasses.asdict(record.timings),
        "settings": dict(record.settings),
        "inputs": dict(record.inputs),
        "engine": dict(record.engine),
    }
    for name in ("model", "passed_over", "answers"):  # only if not empty
        if not value[name]:
            del value[name]
    return value


def scores_json(record: ScoresRecord) -> dict[str, Any]:
    """The scores as plain JSON; a score without draws has no such key."""
    value = dataclasses.asdict(record)
    for score in (*value["scores"], *value["copying"].values()):
        if not score["draws"]:
            del score["draws"]
    if not value["copying"]:
        del value["copying"]
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def read_run(path: Path) -> RunRecord:
    """A run.json of schema 1 or 2. Raises RunError with every problem."""
    value = _object(path)
    spec = value.get("spec")
    if isinstance(spec, dict):
        value = value | {"spec": {k: v for k, v in spec.items() if k not in resolved_names(RunSpec)}}
    return _read(value, RunRecord, path)


def read_scores(path: Path) -> ScoresRecord:
    """A scores.json of schema 1 or 2. Raises RunError with every problem."""
    return _read(_object(path), ScoresRecord, path)


def _object(path: Path) -> dict[str, Any]:
    value = read_json_object(path, RunError, LARGEST_RECORD)
    if value.get("schema") not in READABLE or isinstance(value.get("schema"), bool):
        raise RunError(
            f"{path}: schema {str(value.get('schema'))[:20]}; this version reads {' and '.join(map(str, READABLE))}."
        )
    return value


def _read(value: dict[str, Any], kind: type[Kind], path: Path) -> Kind:
    record, problems = try_read(JsonTree(value), kind, path)
    if record is None:
        error = problems_in(path, problems, RunError)
        raise RunError(str(error), fix="If it was edited by hand, run it again with `flamingo-eval rerun`.")
    return record
