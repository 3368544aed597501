"""The runs of a report and their prompts, rendered again from the record's spec and the data.

If the data's digests or the shots differ from the record, only the answers can be shown, and there is a reason to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.errors import FlamingoEvalError, PromptError
from flamingo_eval.prompting.episodes import Supports
from flamingo_eval.prompting.prompts import render
from flamingo_eval.records import Episode, Example, Output, Prompt
from flamingo_eval.report.diff import outputs_by_id
from flamingo_eval.report.rows import rows_of
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.record import RunRecord, ScoresRecord
from flamingo_eval.runs.recorded import recorded_data, recorded_episodes
from flamingo_eval.runs.task_data import TaskData


@dataclass(frozen=True, slots=True)
class Run:
    """One run, with the data that the page needs."""

    folder: RunFolder
    spec: RunSpec
    record: RunRecord
    scores: ScoresRecord
    outputs: Mapping[str, Output]
    variant: str = ""  # distinguishes it from runs of the same name (rows.py)

    @property
    def words(self) -> list[str]:
        """The rest of its name, besides model and protocol: `rices`, `labels-shuffled`, `limit 100`."""
        method = self.spec.demos.method
        return [w for w in (method if method != "random" else "", self.spec.ablation, self.variant) if w]


def read_runs(folders: Sequence[RunFolder]) -> list[Run]:
    """The records of complete runs, each once, in the order of task, model and shots."""
    runs = [
        Run(r.folder, r.run.spec, r.run, r.scores, outputs_by_id(r.folder), variant)
        for (*_, variant), records in rows_of(folders).items()
        for r in records
    ]
    return sorted(runs, key=_order)


def _order(run: Run) -> tuple[Any, ...]:
    s = run.spec
    key = (s.task_label, s.split, s.model, s.protocol.name, s.demos.method, s.ablation, run.variant)
    return (*key, s.demos.shots, s.demos.seed, str(run.folder.path))


class TaskPrompts:
    """The data of one task, read once, and the episodes of its runs."""

    def __init__(self, data: TaskData) -> None:
        self.data = data
        self.supports = Supports(data.task.name, data.support, data.given)

    def episodes(self, run: Run, ids: Iterable[str]) -> dict[str, Episode]:
        """The episodes of some of a run's queries, after its ablation; empty if the record does not have them."""
        if run.record.answers is not None and not run.spec.prompt.query:
            return {}  # another program's answers to its own prompts
        outputs = {id: run.outputs[id] for id in ids if id in run.outputs}
        return recorded_episodes(run.record, outputs, self.data, self.supports)

    def queries(self, run: Run) -> dict[str, Example]:
        """The queries of the split by id, those of the run as it asked them: an ablation may change what is right."""
        queries = {e.id: e for e in self.data.queries.examples}
        changed = self.episodes(run, run.outputs) if run.spec.ablation else {}
        return queries | {id: episode.query for id, episode in changed.items()}

    def prompt(self, run: Run, id: str) -> tuple[Prompt | None, str]:
        """The prompt of one of the run's queries; or None and the reason."""
        episode = self.episodes(run, [id]).get(id)
        if episode is None:
            return None, "the record does not contain the shots"
        return recorded_prompt(episode, run.outputs[id], run.spec, self.data.queries.candidates)


def recorded_prompt(
    episode: Episode, output: Output, spec: RunSpec, candidates: Sequence[str] = ()
) -> tuple[Prompt | None, str]:
    """The recorded prompt of an episode; or None and the reason. `candidates`: the split's."""
    if tuple(s.id for s in episode.shots) != output.shots:
        return None, "the shots differ from those in the record"
    try:
        return render(episode, spec.prompt, spec.protocol, candidates), ""
    except PromptError as error:
        return None, str(error)


def task_prompts(runs: Sequence[Run], data: str | None, images: tuple[str, ...]) -> tuple[TaskPrompts | None, str]:
    """The data that the runs of a task share; or None and the reason."""
    try:
        inputs = [r.record.files for r in runs]
        if any(i != inputs[0] for i in inputs):
            raise FlamingoEvalError("its runs were made from different data")
        return TaskPrompts(recorded_data(runs[0].record, data, images)), ""
    except FlamingoEvalError as error:
        return None, str(error)
