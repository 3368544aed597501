"""Writes a converted checkpoint one tensor at a time, so that only one of them is in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from flamingo_eval.errors import Problem, UsageError
from flamingo_eval.files import write_error
from flamingo_eval.models.checkpoint import write_index
from flamingo_eval.models.checkpoint_files import CARD, CONFIG, TOKENIZER, WEIGHTS
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.config_json import write_config
from flamingo_eval.models.convert.tensor_map import PlannedTensor, problems_by_file

MAX_SHARD = 5_000_000_000  # bytes
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets its name only when it is complete.

    An existing empty folder is filled, config.json last. Raises UsageError if the name exists, cannot be written, or
    the disk is full; nothing is left on disk then.
    """
    check_out(out)
    absolute = out.absolute() if out.name else out.resolve()  # `.` and `..` have no name of their own
    unfinished = absolute.with_name(f".{absolute.name}.unfinished")
    try:
        if absolute.is_dir():
            unfinished = absolute / ".unfinished"  # what is above may be read-only, or another file system
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        if absolute.exists():
            for path in sorted(unfinished.iterdir(), key=lambda path: path.name == CONFIG):
                path.rename(absolute / path.name)
        else:
            unfinished.rename(absolute)
    except OSError as error:
        raise write_error(out, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_out(out: Path) -> None:
    """Raise UsageError if the folder exists, before any work."""
    try:
        occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise write_error(out, error) from error
    if occupied:
        raise UsageError(f"{out}: exists and is not empty.", fix="Pass another --out, or remove the folder.")


def write_checkpoint(
    folder: Path, config: FlamingoConfig, plans: Mapping[str, PlannedTensor], tokenizer_json: str, card: str
) -> None:
    """Write all files of a checkpoint folder, weights in shards of at most MAX_SHARD bytes.

    Raises CheckpointError that names every tensor with NaN or infinity.
    """
    problems: list[Problem] = []
    shards = _shards(plans)
    if len(shards) == 1:
        problems += write_safetensors(folder / WEIGHTS, plans)
    else:
        files: dict[str, str] = {}
        for i, names in enumerate(shards, 1):
            file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
            problems += write_safetensors(folder / file, {name: plans[name] for name in names})
            files |= dict.fromkeys(names, file)
        write_index(folder, files)
    if problems:
        raise problems_by_file(problems, config.name)
    write_config(config, folder / CONFIG)
    (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def write_safetensors(path: Path, plans: Mapping[str, PlannedTensor]) -> list[Problem]:
    """The safetensors format: length of the header (8 bytes), JSON header, then the tensors' bytes in a row.

    -> problems: the tensors with NaN or infinite weights
    """
    problems: list[Problem] = []
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, plan in plans.items():
        begin, end = end, end + _bytes(plan)
        header[name] = {"dtype": _NAMES[plan.dtype], "shape": list(plan.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, plan in plans.items():
            tensor = plan.make().to(plan.dtype).contiguous()
            if not tensor.isfinite().all():
                problems.append(_broken(name, plan, tensor))
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
    return problems


def _broken(name: str, plan: PlannedTensor, tensor: torch.Tensor) -> Problem:
    count = int((~tensor.isfinite()).sum())
    names = " and ".join(foreign.name for foreign in plan.sources) or name
    what = f"{names}: {count:,} of {tensor.numel():,} weights are NaN or infinite."
    return Problem(
        what,
        file=plan.sources[0].file if plan.sources else None,
        fix="The file may be damaged: copy or download it again.",
    )


def _shards(plans: Mapping[str, PlannedTensor]) -> Sequence[Sequence[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, plan in plans.items():
        if shards[-1] and size + _bytes(plan) > MAX_SHARD:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _bytes(plan)
    return shards


def _bytes(plan: PlannedTensor) -> int:
    return torch.Size(plan.shape).numel() * plan.dtype.itemsize
