"""A run from its record: run.json -> the resolved spec, without reading today's tasks/ and prompts/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flamingo_eval.config.settings import is_sample
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.roots import DataRoot, data_root
from flamingo_eval.errors import FlamingoEvalError, RunError
from flamingo_eval.prompting.episodes import Supports, ablated, chosen_queries, episodes_of
from flamingo_eval.prompting.support import shown_under
from flamingo_eval.records import Episode, Example, Output, Score
from flamingo_eval.runs.copying import with_copying
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.record import RunRecord, read_run
from flamingo_eval.runs.task_data import TaskData, load_data

AS_RECORDED = ("rices", "file", "official")  # methods whose shots are read from the record


def recorded_spec(folder: RunFolder) -> RunSpec:
    """The spec of a run. Raises RunError for a record that this version cannot read."""
    return read_run(folder.run).spec


def data_of(spec: RunSpec, data: str | None, images: tuple[str, ...] = ()) -> DataRoot:
    """The data root of a recorded run: the sample, or a folder from the user. Records contain no machine paths."""
    if not is_sample(spec.data) and data is None:
        raise RunError(
            f"the run used '{spec.data}', and the record does not contain its folder.",
            fix="Give it with --data DIR.",
        )
    return data_root(spec.data if is_sample(spec.data) else str(data), spec.task.name, images)


def recorded_data(record: RunRecord, data: str | None, images: tuple[str, ...] = ()) -> TaskData:
    """The data that a finished run was made from; `data` is where the official files are, `images` more pictures.

    Raises FlamingoEvalError if they are missing or have changed.
    """
    spec = record.spec
    if not is_sample(spec.data) and data is None:
        raise FlamingoEvalError(f"prompts and pictures need the data: --data DIR with '{spec.data}'")
    root = data_root(spec.data if is_sample(spec.data) else str(data), spec.task.name, images)
    try:
        loaded = load_data(spec.task, root, spec.split, ablation=spec.ablation)
    except FlamingoEvalError as error:
        raise FlamingoEvalError(str(error).replace(f"{root}/", "").replace(str(root), root.name)) from error
    before = record.files
    changed = sorted(k for k in before | dict(loaded.inputs) if before.get(k) != loaded.inputs.get(k))
    if changed:
        raise FlamingoEvalError(f"the data differs from that of the run: {', '.join(changed)}")
    return loaded


def recorded_episodes(
    record: RunRecord, outputs: Mapping[str, Output], data: TaskData, supports: Supports
) -> dict[str, Episode]:
    """The episodes of a run's queries after its ablation, by query id; of the queries in `outputs`.

    Shots are drawn again if a draw decides them, otherwise read from the outputs; no model is loaded. Raises
    PromptError if the support set is too small.
    """
    spec = record.spec
    chosen = chosen_queries(data.queries, spec.task.name, None, spec.ablation)
    queries = [e for e in chosen if e.id in outputs]
    support = supports.of(spec.demos)
    if not (spec.demos.method.startswith(AS_RECORDED) or record.passed_over or record.answers):
        episodes = episodes_of(spec, queries, support)
    else:
        episodes = _of_outputs(queries, outputs, data, text_only=spec.demos.shots == 0)
        if not spec.ablation.startswith("order-"):  # the record has the shots in the order shown
            episodes = ablated(episodes, spec, support)
    return {e.query.id: e for e in episodes}


def _of_outputs(
    queries: Sequence[Example], outputs: Mapping[str, Output], data: TaskData, text_only: bool
) -> Iterator[Episode]:
    known = {e.id: e for e in data.support.examples} if data.support is not None else {}
    for query in queries:
        key = str(query.labels.get("answer_key", ""))
        shots = tuple(shown_under(known[id], key) for id in outputs[query.id].shots if id in known)
        yield Episode(query, shots, text_only)


def copying_again(
    record: RunRecord, outputs: Sequence[Output], data: TaskData
) -> tuple[list[Output], Mapping[str, Score]]:
    """The outputs of a finished run with what each copied from its shots, for records without it.

    `data`: the run's data. Outputs whose shots differ from the record are not changed. See copying.with_copying.
    """
    supports = Supports(data.task.name, data.support, data.given)
    episodes = recorded_episodes(record, {o.id: o for o in outputs}, data, supports)
    same = {o.id: episodes[o.id] for o in outputs if o.id in episodes and _shots(episodes[o.id]) == o.shots}
    return with_copying(outputs, same, record.spec, data.queries)


def _shots(episode: Episode) -> tuple[str, ...]:
    return tuple(shot.id for shot in episode.shots)
