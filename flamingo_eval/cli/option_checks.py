"""What can be wrong with options, said before any data is read or model is loaded, and all of it at once."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from flamingo_eval.cli.options import task_list
from flamingo_eval.config.groups import group_names
from flamingo_eval.config.names import find_protocol, find_task
from flamingo_eval.distributed.environment import rank_environment
from flamingo_eval.errors import FlamingoEvalError, MissingDependency, UsageError, counted, did_you_mean
from flamingo_eval.files import printable

Value = TypeVar("Value")
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
DTYPES = ("auto", "float32", "bfloat16", "float16")
GPU_NODES = ("dev/nvidia*", "dev/dxg", "dev/kfd")  # what the drivers of NVIDIA, WSL and AMD put below /


class SeveralProblems(UsageError):  # noqa: N818 - several errors, each with its own words
    """All that is wrong with the options of a command."""

    def __init__(self, message: str, texts: tuple[str, ...]) -> None:
        super().__init__(message)
        self.texts = texts


def _each(error: FlamingoEvalError) -> tuple[str, ...]:
    return error.texts if isinstance(error, SeveralProblems) else (str(error).replace("\n", "\n    "),)


class Checks:
    """Collects what several checks raise."""

    def __init__(self) -> None:
        self.errors: list[FlamingoEvalError] = []

    def attempt(self, check: Callable[[], Value]) -> Value | None:
        """What a check returns; None if it raised an error for the user, which is stored."""
        try:
            return check()
        except FlamingoEvalError as error:
            self.errors.append(error)
            return None

    def add(self, error: FlamingoEvalError) -> None:
        """Keep an error that is found without a function."""
        self.errors.append(error)

    def require(self) -> None:
        """Raise what was kept: the one error, or one that tells of all."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            texts = dict.fromkeys(text for error in self.errors for text in _each(error))
            lines = "\n".join(f"  {text}" for text in texts)
            raise SeveralProblems(f"{counted(len(texts), 'problem')} with the options:\n{lines}", tuple(texts))


def require_known(*options: tuple[str | None, str, Sequence[str]]) -> None:
    """Each option is (value, name, known words). Raises UsageError with the nearest word for the first unknown one."""
    for value, name, known in options:
        if value is not None and value not in known:
            raise UsageError(f"{name} {value}: {did_you_mean(value, known) or 'unknown.'} One of: {', '.join(known)}.")


def check_device(device: str) -> None:
    """Raise UsageError for an unknown device, and for CUDA if there is no sign of a GPU; PyTorch is not imported."""
    if DEVICE.fullmatch(device) is None:
        hint = "Did you mean 'cuda'?" if "gpu" in device.lower() else did_you_mean(device, ("auto", "cpu", "cuda"))
        raise UsageError(f"--device {device}: {hint or 'unknown.'} One of: auto, cpu, cuda, cuda:N.")
    if device.startswith("cuda") and not any(next(Path("/").glob(node), None) for node in GPU_NODES):
        raise UsageError(
            f"--device {device}: no GPU is visible here.", fix="Use --device cpu, or see `flamingo-eval doctor`."
        )


def check_dtype(dtype: str) -> None:
    """Raise UsageError for an unknown dtype."""
    if dtype not in DTYPES:
        hint = did_you_mean(dtype, DTYPES)
        raise UsageError(f"--dtype {dtype}: {hint or 'unknown.'} One of: {', '.join(DTYPES)}.")


def check_count(value: str, option: str) -> None:
    """Raise UsageError for what is neither `auto` nor a number from 1."""
    if value != "auto" and not (value.isascii() and value.isdigit() and int(value) > 0):
        raise UsageError(f"{option} {value}: expected `auto` or a number from 1.")


def check_deployment(
    device: str,
    dtype: str,
    batch_size: str = "auto",
    ray: str | None = None,
    replicas: str = "auto",
    gpus_per_replica: int | None = None,
    tensor_parallel: int = 1,
) -> None:
    """Raise for everything at once that is wrong with where and how a model is to run."""
    checks = Checks()
    checks.attempt(lambda: check_device(device))
    checks.attempt(lambda: check_dtype(dtype))
    checks.attempt(lambda: check_count(batch_size, "--batch-size"))
    checks.attempt(lambda: _check_processes(ray, replicas, gpus_per_replica, tensor_parallel))
    checks.require()


def _check_processes(ray: str | None, replicas: str, gpus_per_replica: int | None, tensor_parallel: int) -> None:
    if ray is None:
        if replicas != "auto" or gpus_per_replica is not None:
            raise UsageError(
                "--replicas and --gpus-per-replica are for a cluster.", fix="Add --ray local, or an address."
            )
        if tensor_parallel > 1 and rank_environment() is None:
            raise UsageError(
                f"--tensor-parallel {tensor_parallel} shares a model among ranks.",
                fix=f"Start it with `torchrun --nproc-per-node {tensor_parallel} -m flamingo_eval run ...`.",
            )
        return
    if tensor_parallel > 1 or (gpus_per_replica or 0) > 1:
        raise UsageError(
            "--ray: a replica uses one GPU; use torchrun for larger models.",
            fix="Start `torchrun --nproc-per-node N -m flamingo_eval run ... --tensor-parallel N` without --ray.",
        )
    check_count(replicas, "--replicas")
    if importlib.util.find_spec("ray") is None:
        raise MissingDependency("--ray needs the package ray.", fix="Install it: pip install 'flamingo-eval[ray]'.")


def check_names(checks: Checks, words: Sequence[str], protocol: str) -> list[str]:
    """The tasks as the command line names them; unknown ones, and an unknown protocol, are kept in `checks`."""
    names = checks.attempt(lambda: task_list(words)) or []
    for name in names:
        if name not in group_names():
            checks.attempt(lambda name=name: find_task(name.partition("@sample:")[0]))  # type: ignore[misc]
    if protocol:
        place = protocol if Path(protocol).is_dir() else protocol.partition(":")[0]
        checks.attempt(lambda: find_protocol(place))
    return names


def check_in_file(file: Path, option: str) -> None:
    """Raise UsageError for a file that is not there."""
    if not file.exists():
        raise UsageError(f"{option} {printable(file)}: there is no such file.")
    if file.is_dir():
        raise UsageError(f"{option} {printable(file)}: it is a folder.", fix="Give a file.")


def check_there(path: Path | None, option: str) -> None:
    """Raise UsageError for a file or folder that is not there; None is an option that was not used."""
    if path is not None and not path.exists():
        raise UsageError(f"{option} {printable(path)}: there is no such file or folder.")


def check_out_folder(folder: Path, option: str = "--out") -> None:
    """Raise UsageError where nothing can be written below a folder, which need not exist."""
    if folder.is_file():
        raise UsageError(f"{option} {printable(folder)}: it is a file.", fix="Give a folder.")
    _check_writable(folder, folder, option)


def check_out_runs(folder: Path, fresh: bool) -> None:
    """Raise UsageError where no run can be written and none is finished; finished ones need no place to write."""
    try:
        check_out_folder(folder)
    except UsageError:
        if fresh or not folder.is_dir() or next(folder.glob("*/*/*/scores.json"), None) is None:
            raise


def check_new_folder(folder: Path, option: str = "--out") -> None:
    """Raise UsageError for a folder that is not empty, and where none can be made."""
    check_out_folder(folder, option)
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"{option} {printable(folder)}: exists and is not empty.",
            fix=f"Pass another {option}, or remove the folder.",
        )


def check_out_file(file: Path, option: str = "--out") -> None:
    """Raise UsageError where a file cannot be written, for its folder's sake; the folder need not exist."""
    if file.is_dir():
        raise UsageError(f"{option} {printable(file)}: it is a folder.", fix="Give the name of a file.")
    if not file.exists() or file.is_file():  # /dev/stdout and pipes are left alone
        _check_writable(file, file.parent, option)


def _check_writable(what: Path, folder: Path, option: str) -> None:
    """Write a small file into the nearest folder above that exists, and remove it."""
    existing = folder.absolute()
    try:
        while not os.path.lexists(existing):
            existing = existing.parent
        with tempfile.TemporaryFile(dir=existing, prefix=".flamingo-eval-") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        why = "is no folder" if isinstance(error, NotADirectoryError) else (error.strerror or str(error)).lower()
        place = "" if existing == what.absolute() else f"{printable(existing)}: "
        raise UsageError(
            f"{option} {printable(what)}: cannot be written: {place}{why}.", fix=f"Choose another {option}."
        ) from error
