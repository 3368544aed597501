"""A run again, from its record: run.json -> the resolved spec, without a look at today's tasks/ and prompts/."""

from __future__ import annotations

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.roots import DataRoot, data_root
from flamingo_eval.errors import RunError
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.record import read_run


def recorded_spec(folder: RunFolder) -> RunSpec:
    """The spec a run was made with. Raises RunError for a record that this version cannot read."""
    return read_run(folder.run).spec


def data_of(spec: RunSpec, data: str | None, images: tuple[str, ...] = ()) -> DataRoot:
    """The data root of a recorded run: the sample, or what the user gives. Records hold no machine paths."""
    from flamingo_eval.config.settings import is_sample

    if not is_sample(spec.data) and data is None:
        raise RunError(
            f"the run was over '{spec.data}', whose place the record does not hold.", fix="Give it with --data DIR."
        )
    return data_root(spec.data if is_sample(spec.data) else str(data), spec.task.name, images)
