"""flamingo-eval list: names of tasks, prompts, models, metrics and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from flamingo_eval.cli.options import Json, one_of

KINDS = ("tasks", "prompts", "models", "metrics", "ablations", "published")


def list_(
    what: Annotated[
        str, typer.Argument(metavar="tasks|prompts|models|metrics|ablations|published", autocompletion=one_of(*KINDS))
    ] = "tasks",
    as_json: Json = False,
) -> None:
    """List tasks, prompts, models, metrics, ablations or published scores."""
    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.errors import UsageError, did_you_mean

    if what not in KINDS:
        hint = did_you_mean(what, KINDS)
        raise UsageError(f"list {what}: {hint or 'unknown.'} One of: {', '.join(KINDS)}.")
    rows_of: dict[str, Callable[[], list[dict[str, str]]]] = {
        "tasks": _tasks,
        "prompts": _prompts,
        "models": _models,
        "metrics": _metrics,
        "ablations": _ablations,
        "published": _published,
    }
    rows = rows_of[what]()
    if as_json:
        print_json(rows)
        return
    if what == "tasks":
        rows = [_on_one_line(row) for row in rows]
    print_table(tuple(rows[0]) if rows else ("nothing",), [tuple(row.values()) for row in rows])
    if what == "tasks":
        say("files of each task: flamingo-eval list tasks --json; check yours: flamingo-eval check TASK --data DIR")


def _tasks() -> list[dict[str, str]]:
    from flamingo_eval.config.groups import groups_of
    from flamingo_eval.config.names import find_task, task_names
    from flamingo_eval.data.task_file import load_task

    rows = []
    for name in task_names():
        task = load_task(find_task(name))
        rows.append(
            {
                "task": task.name,
                "title": task.title,
                "modality": task.modality,
                "mode": task.mode,
                "groups": ", ".join(groups_of(task.name)),
                "metric": ", ".join(f"{m.name}:{m.dialect}" if m.dialect else m.name for m in task.metrics),
                "split": task.data.query,
                "shots from": task.data.support or "none",
                "prompt": " or ".join(task.prompt),
                "protocols": ", ".join(f"{form}: {name}" for form, name in task.protocols.items()),
                "data": task.data.source,
            }
        )
    return rows


def _on_one_line(row: dict[str, str]) -> dict[str, str]:
    """A task on one line: only the headline metric, and only the address of the data."""
    headline, *other_metrics = row["metric"].split(", ")
    link = row["data"].startswith("http")
    address = row["data"].split()[0].rstrip(":,").split("//")[1] if link else row["data"].split(" (")[0]
    shortened = {"metric": f"{headline} +{len(other_metrics)}" if other_metrics else headline, "data": address}
    return {key: shortened.get(key, value) for key, value in row.items() if key not in ("title", "protocols")}


def _prompts() -> list[dict[str, str]]:
    from flamingo_eval.config.load import load_prompt
    from flamingo_eval.config.names import find_protocol, protocol_names
    from flamingo_eval.config.protocols import load_protocol

    rows = []
    for name in protocol_names():
        folder = find_protocol(name)
        title = load_protocol(folder / "protocol.yaml").title
        for path in sorted(p for p in folder.glob("*.yaml") if p.stem != "protocol"):
            prompt = load_prompt(path)
            rows.append(
                {
                    "protocol": name,
                    "prompt": path.stem,
                    "query": prompt.query.replace("{{ image }}", "<image>"),
                    "zero shots": f"{prompt.text_only_shots} text-only" if prompt.text_only_shots else "bare",
                    "of": title,
                }
            )
    return rows


def _models() -> list[dict[str, str]]:
    from flamingo_eval.backends.table import BACKENDS
    from flamingo_eval.models.presets import PRESETS

    rows = []
    for row in BACKENDS:
        tasks = " and ".join(w for w, supported in (("generate", row.generate), ("rank", row.rank)) if supported)
        rows.append(
            {
                "model": row.model,
                "what": row.what,
                "does": tasks,
                "clips": row.video,
                "turns": "yes" if row.turns else "no",
                "batch-independent": row.batch_independent,
                "install": f"missing {', '.join(row.missing)}: {row.install}" if row.missing else "ready",
            }
        )
    dashes = dict.fromkeys(("does", "clips", "turns", "batch-independent", "install"), "-")
    rows += [{"model": "tiny", "what": "bundled checkpoint, trained on the sample world; the default", **dashes}]
    rows += [
        {"model": name, "what": "architecture preset (weights through `convert` or `train`)", **dashes}
        for name in PRESETS
    ]
    return rows


def _metrics() -> list[dict[str, str]]:
    from flamingo_eval.metrics import METRICS

    return [
        {"metric": name, "what": row.about, "reads": row.needs, "dialects": ", ".join(d for d in row.dialects if d)}
        for name, row in METRICS.items()
    ]


def _ablations() -> list[dict[str, str]]:
    from flamingo_eval.prompting.ablations import (
        ABLATIONS,
        ABLATIONS_OF_SUPPORT,
        QUERY_IMAGES_SHUFFLED,
        shuffle_query_images,
    )

    functions: Mapping[str, Callable[..., object]] = {**ABLATIONS, **ABLATIONS_OF_SUPPORT}
    summaries = {name: (f.__doc__ or "").splitlines()[0] for name, f in functions.items()}
    summaries[QUERY_IMAGES_SHUFFLED] = (shuffle_query_images.__doc__ or "").splitlines()[0]
    return [{"ablation": name, "what": summaries[name]} for name in sorted(summaries)]


def _published() -> list[dict[str, str]]:
    from flamingo_eval.report.published import published

    return [
        {
            "model": p.model,
            "task": p.task,
            "split": p.split,
            "metric": p.metric,
            "shots chosen": p.selection,
            "scores": "  ".join(
                (
                    *(f"{shots}: {value:g}" for shots, value in sorted(p.values.items())),
                    *([f"all: {p.all_shots:g}"] if p.all_shots is not None else []),
                )
            ),
            "source": f"{p.title}, {p.where}",
        }
        for p in published()
    ]
