"""Published scores and the protocols of their sources.

The numbers, their sources and the contradictions between the sources are in published_results.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from flamingo_eval.errors import UsageError, did_you_mean

ALL_SHOTS = "all"  # among a task's values in the file
FILE = Path(__file__).resolve().parent / "published_results.yaml"


@dataclass(frozen=True, slots=True)
class Published:
    """The scores of one model on one task as printed in a source, on our 0-100 scale, by number of shots."""

    model: str
    source: str  # key of Practice and of `sources` in the file
    title: str
    where: str
    task: str
    metric: str
    split: str
    selection: str  # random, rices, ...
    values: Mapping[int, float]
    std: Mapping[int, float] = field(default_factory=dict)  # over seeds
    seeds: int | None = None
    support_size: int | None = None
    support_per_class: int | str | None = None
    notes: str = ""
    conflicts: Mapping[int, str] = field(default_factory=dict)  # contradictions between sources, by shots
    all_shots: float | None = None  # with all demonstrations of a query
    protocol: str = ""  # if the source asked this model differently

    @property
    def asked_in(self) -> str:
        """The protocol that the model was asked in."""
        return self.protocol or PRACTICES[self.source].protocol

    def at_all_shots(self, shots: int | None) -> Published:
        """With the value at all of a query's demonstrations as that of `shots`, the largest number of any query."""
        if shots is None or self.all_shots is None:
            return self
        return replace(self, values={**self.values, shots: self.all_shots})


@dataclass(frozen=True, slots=True)
class Practice:
    """The protocol of a source, as far as it is stated. None: not stated."""

    protocol: str
    text_only_open: int = 2
    text_only_close: int = 0
    permutations: int | None = None
    normalise: str | None = None
    wanted: str | None = None  # of the candidates: a letter, or the scores of all
    beams: int | None = None
    length_penalty: float | None = None
    dialect: str = ""  # of VQA accuracy
    unstated: str = ""


FLAMINGO = Practice(
    "flamingo",
    permutations=6,
    beams=3,
    unstated="answer length, length penalty, seeds, sum or mean over a candidate's tokens",
)
PRACTICES = {
    "flamingo-v1": FLAMINGO,
    "flamingo-v2": FLAMINGO,
    "openflamingo-paper": Practice(
        "openflamingo",
        text_only_close=2,
        permutations=6,
        normalise="mean",
        beams=3,
        length_penalty=0.0,
        dialect="openflamingo",
    ),
    "openflamingo-v1-card": Practice("openflamingo", text_only_close=2, unstated="number of queries, seeds"),
    "vl-icl-figure": Practice(
        "vl_icl", text_only_open=0, beams=1, unstated="the instruction before the demonstrations (detailed is assumed)"
    ),
    "smmile-repository": Practice(
        "smmile",
        text_only_open=0,
        wanted="letter",
        dialect="smmile",
        unstated="decoding (each model's default), seeds of option lines",
    ),
    "idefics-card": Practice("idefics", permutations=1, unstated="splits, seeds, decoding"),
}


@lru_cache(maxsize=1)
def published() -> tuple[Published, ...]:
    """Every few-shot score in the file, in its order: the papers' tables, then Flamingo's classification runs."""
    content = _content()
    sources, conflicts = content["sources"], content["conflicts"]
    rows: list[Published] = []
    for block in content["results"]:
        for task, entry in block["tasks"].items():
            rows += _of_block(block, task, entry, sources)
    rows += _of_classification(content["classification"], sources)
    return tuple(replace(p, conflicts=_conflicts(p, conflicts)) for p in rows)


def _content() -> dict[str, Any]:
    """The file as plain values; it is part of the package and checked by tests, so it needs no schema."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def _of_block(
    block: Mapping[str, Any], task: str, entry: Mapping[str, Any], sources: Mapping[str, Any]
) -> list[Published]:
    source = block["source"]
    row = Published(
        model=block["model"],
        source=source,
        title=sources[source]["title"],
        where=_place(sources[source]["where"], block["selection"]),
        task=task,
        metric=entry["metric"],
        split=entry["split"],
        selection=block["selection"],
        values={k: v for k, v in entry.get("values", {}).items() if k != ALL_SHOTS},
        std=entry.get("std", {}),
        seeds=block.get("seeds"),
        support_size=block.get("support_set_size"),
        notes=block.get("notes", ""),
        all_shots=entry.get("values", {}).get(ALL_SHOTS),
        protocol=block.get("protocol", ""),
    )
    if "entries" not in entry:
        return [row]
    return [
        replace(row, selection=e["selection"], support_size=e["support_set"], values={e["shots"]: e["value"]})
        for e in entry["entries"]
    ]


def _place(source: str, selection: str) -> str:
    """The source's table with few-shot scores for a method of choosing shots; all tables if none states it."""
    tables = re.split(r", (?=Table)", source)
    matching = [t for t in tables if "few-shot" in t or selection in t.lower()]
    return matching[0] if matching else source


def _of_classification(table: Mapping[str, Any], sources: Mapping[str, Any]) -> list[Published]:
    """Flamingo v2 Table 7: `prompt_size` demonstrations out of `per_class` support examples of each class."""
    source = table["source"]
    metrics = {"imagenet": "top1_accuracy", "kinetics700": "mean_top1_top5"}
    rows = [r for r in table["rows"] if r["model"].startswith("Flamingo")]
    return [
        Published(
            model=row["model"],
            source=source,
            title=sources[source]["title"],
            where="Table 7 (classification)",
            task=task,
            metric=metric,
            split="val",
            selection=row["selection"],
            values={row["prompt_size"]: row[task]},
            support_per_class=row["per_class"],
        )
        for row in rows
        for task, metric in metrics.items()
    ]


def _conflicts(p: Published, conflicts: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    return {
        shots: c["comment"]
        for c in conflicts
        if c["task"] == p.task and fnmatchcase(p.model, c["model"]) and c.get("selection", p.selection) == p.selection
        for shots in ([c["shots"]] if "shots" in c else list(p.values))
    }


def models() -> tuple[str, ...]:
    """Names of the models with published scores, in the file's order."""
    return tuple(dict.fromkeys(p.model for p in published()))


def find_model(name: str) -> str:
    """The published model of that name, in any case. Raises UsageError with the nearest name."""
    by_lower_case = {m.lower(): m for m in models()}
    if name.lower() not in by_lower_case:
        hint = did_you_mean(name.lower(), by_lower_case)
        raise UsageError(
            f"--compare {name}: no published scores of that name. {hint}".rstrip(),
            fix=f"Known: {', '.join(by_lower_case)}.",
        )
    return by_lower_case[name.lower()]
