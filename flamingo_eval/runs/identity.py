"""The identity of a run: the choices and files that decide its outputs. All comparisons of runs use this module.

Fields of the specs count unless their metadata says otherwise (config/specs.py): prose, official counts and fields that
are folded into a resolved value do not. The contents of a benchmark's files count, in the order in which a split reads
them; names of files and folders do not, so a data folder can be renamed and its files moved. The fingerprint, folder
names, rows of tables, comparisons and the line that says why a run is new all use the same flat mapping.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flamingo_eval.config.settings import HUB, is_sample
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.layouts import LAYOUTS
from flamingo_eval.files import sha256_json

if TYPE_CHECKING:
    from flamingo_eval.runs.record import RunRecord

ABSENT = "-"
MOST_NAMED = 3  # differences in a sentence


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose value differs between two runs."""

    key: str
    a: Any
    b: Any


def identity(spec: RunSpec) -> dict[str, Any]:
    """Every choice that decides the outputs or scores of a run, by dotted key, as plain JSON."""
    values = dict(_counted(spec, "", "identity"))
    for name in resolved_names(RunSpec):
        part = getattr(spec, name)
        values |= dict(_counted(part, name, "identity") if dataclasses.is_dataclass(part) else _flat(name, part))
    return values | _data(spec)


def row_settings(spec: RunSpec) -> dict[str, Any]:
    """The part of the identity that splits rows of a table: all but the name of a row and its columns."""
    without_row = {key for key, field in _all_fields(RunSpec, "") if not field.metadata.get("row", True)}
    return {k: v for k, v in identity(spec).items() if k not in without_row and k != "data"}


def fingerprint(spec: RunSpec, queries: Sequence[str], support: Sequence[str]) -> str:
    """sha256 over the identity and the digests of the files of both splits, in the order in which they are read."""
    contents = {"queries": list(queries), "support": list(support)}
    return sha256_json({"version": 2, "spec": identity(spec), "model": spec.model_sha256, "inputs": contents})


def folder_name(spec: RunSpec, mark: str) -> str:
    """<task>/<model>/<shots>shot-<method>-s<seed>[-<ablation>]-<beginning of the fingerprint>."""
    model = re.sub(r"[^\w.@+-]+", "-", spec.model).strip("-.") or "model"
    return f"{spec.task_label}/{model}/{family(spec)}-{mark[:8]}"


def family(spec: RunSpec) -> str:
    """The folder name without the fingerprint: runs of one family have the same name otherwise."""
    name = f"{spec.demos.shots}shot-{spec.demos.method}-s{spec.demos.seed}"
    return f"{name}-{spec.ablation}" if spec.ablation else name


def explain(a: RunRecord, b: RunRecord) -> tuple[Difference, ...]:
    """Why two runs are different: choices, weights and file contents. Empty if they are the same run."""
    return (*choices_differ(a, b), *inputs_differ(a, b))


def choices_differ(a: RunRecord, b: RunRecord) -> tuple[Difference, ...]:
    """The choices that decide outputs and differ between two records."""
    return differences(identity(a.spec), identity(b.spec))


def inputs_differ(a: RunRecord, b: RunRecord) -> tuple[Difference, ...]:
    """The inputs (checkpoint, annotation files) with different contents; a renamed file is not a difference."""
    common = set(a.inputs.values()) & set(b.inputs.values())
    left, right = ({k: v for k, v in r.inputs.items() if v not in common} for r in (a, b))
    return differences(left, right)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    """The keys of two flat mappings whose values differ, in the order of the first."""
    keys = [*a, *(k for k in b if k not in a)]
    values = [(k, a.get(k, ABSENT), b.get(k, ABSENT)) for k in keys]
    return tuple(Difference(k, x, y) for k, x, y in values if x != y)


def in_words(differences: Sequence[Difference]) -> str:
    """`demos.support_size (2048, now 8), val.json and 2 more`: what differs, for one line."""
    names = [_in_words(d) for d in differences[:MOST_NAMED]]
    n_more = len(differences) - len(names)
    return ", ".join(names) + (f" and {n_more} more" if n_more else "")


def _in_words(difference: Difference) -> str:
    texts = [str(v) for v in (difference.a, difference.b)]
    is_short = all(len(t) <= 24 and t.isprintable() for t in texts)
    return f"{difference.key} ({texts[0]}, now {texts[1]})" if is_short else difference.key


@cache
def resolved_names(kind: type) -> tuple[str, ...]:
    """The properties of RunSpec that replace fields (see their metadata): decode, rank, text_only_shots."""
    names = (field.metadata.get("resolved") for _, field in _all_fields(kind, ""))
    return tuple(dict.fromkeys(n for n in names if n))


def _data(spec: RunSpec) -> dict[str, Any]:
    """The data: the sample, a mirror or files; and the options (not file names) of the splits that are read."""
    data = spec.task.data
    values: dict[str, Any] = {"data": spec.data if is_sample(spec.data) or spec.data == HUB else "files"}
    if spec.data == HUB and data.hub is not None:
        values |= dict(_counted(data.hub, "task.data.hub", "identity"))
        return values
    words = LAYOUTS[data.layout].words if data.layout in LAYOUTS else None
    for split in dict.fromkeys(s for s in (spec.split, data.support) if s is not None):
        for role, names in data.splits.get(split, {}).items():
            if words is None or role in words:
                values[f"task.data.splits.{split}.{role}"] = list(names)
    return values


def _counted(value: Any, key: str, mark: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and plain value of every field, except those whose metadata sets `mark` to False.

    A field added later (`absent` in its metadata, schema.py) is omitted if it has the old behaviour's value, so that
    older runs keep their folders.
    """
    for field in dataclasses.fields(value):
        inner, below = getattr(value, field.name), f"{key}.{field.name}" if key else field.name
        if _is_absent(field, inner) or not field.metadata.get(mark, True):
            continue
        if dataclasses.is_dataclass(inner):
            yield from _counted(inner, below, mark)
        else:
            yield from _flat(below, _plain(inner))


def _is_absent(field: dataclasses.Field[Any], value: Any) -> bool:
    return "absent" in field.metadata and bool(value == field.metadata["absent"])


def _all_fields(kind: type, key: str) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Dotted key and field of a dataclass and of those below it."""
    from flamingo_eval.schema import field_types

    for field in dataclasses.fields(kind):
        below = f"{key}.{field.name}" if key else field.name
        yield below, field
        inner = field_types(kind)[field.name]
        if dataclasses.is_dataclass(inner):
            yield from _all_fields(inner, below)  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them; without fields that mean what was before there was the field."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: _plain(inner) for f, inner in pairs if not _is_absent(f, inner)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, value
