"""The state of a run on disk: trained weights, optimiser, and the position in the data.

A state is a folder that gets its name when it is complete; a run that was killed at any moment resumes from the last
complete one. Under FSDP every rank writes its shards; they can be loaded by any other number of ranks.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_eval.errors import CheckpointError
from flamingo_eval.files import read_json_object, write_atomically, write_error
from flamingo_eval.training.bridge.ranks import Ranks
from flamingo_eval.training.bridge.recipe import StateSpec

NAME = re.compile(r"\d{8}")
META = "state.json"


class States:
    """The states of a run's folder."""

    def __init__(self, folder: Path, spec: StateSpec, ranks: Ranks, sharded: bool) -> None:
        self.folder, self.spec, self.ranks, self.sharded = folder, spec, ranks, sharded
        self._writer: threading.Thread | None = None
        self._pending: tuple[Path, Path] | None = None
        self._error: OSError | None = None

    def newest(self) -> Path | None:
        """The newest complete state."""
        complete = sorted(p for p in self.folder.glob("*") if NAME.fullmatch(p.name) and (p / META).is_file())
        return complete[-1] if complete else None

    def save(self, update: int, module: nn.Module, optimizer: torch.optim.Optimizer, meta: Mapping[str, Any]) -> None:
        """Copy the state and write it in the background, after the previous one is written. Raises UsageError."""
        self.finish()
        final = self.folder / f"{update:08d}"
        if (final / META).is_file():
            return
        unfinished = self.folder / f".{final.name}.unfinished"
        if self.ranks.first:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        if self.sharded:
            self.ranks.wait()
        content = _copied(module, optimizer) if self.sharded or self.ranks.first else None
        if content is not None:
            if self.ranks.first:
                meta = {**meta, "update": update, "ranks": self.ranks.size if self.sharded else 1}
            self._writer = threading.Thread(target=self._write, args=(unfinished, content, dict(meta)))
            self._writer.start()
        self._pending = (unfinished, final)

    def _write(self, folder: Path, content: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        try:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            write_atomically(folder / f"rank-{self.ranks.rank if self.sharded else 0}.pt", buffer.getvalue())
            if self.ranks.first:
                write_atomically(folder / META, json.dumps(meta) + "\n")
        except OSError as error:
            self._error = error

    def poll(self) -> None:
        """Complete a state that is already written, without waiting; shards of several ranks wait for the next save."""
        if not self.sharded and self._writer is not None and not self._writer.is_alive():
            self.finish()

    def finish(self) -> None:
        """Wait until the last state is complete, and remove the states that are not to be kept. Raises UsageError."""
        if self._pending is None:
            return
        if self._writer is not None:
            self._writer.join()
        if self.sharded:
            self.ranks.wait()
        unfinished, final = self._pending
        self._writer = self._pending = None
        if self._error is not None:
            raise write_error(self.folder, self._error) from self._error
        if self.ranks.first:
            try:
                unfinished.rename(final)
            except OSError as error:
                raise write_error(self.folder, error) from error
            self._tidy()

    def _tidy(self) -> None:
        complete = sorted(p for p in self.folder.glob("*") if NAME.fullmatch(p.name))
        for path in complete[: -self.spec.keep]:
            if not (self.spec.keep_every and int(path.name) % self.spec.keep_every == 0):
                shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".*.unfinished"):
            shutil.rmtree(path, ignore_errors=True)


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a state into module and optimiser; returns its other values. Raises CheckpointError."""
    meta = read_json_object(path / META, CheckpointError)
    try:
        parts = [
            torch.load(path / f"rank-{rank}.pt", map_location="cpu", weights_only=True, mmap=True)
            for rank in range(int(meta["ranks"]))
        ]
    except (OSError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path}: the state cannot be read: {error}.", fix="Remove that folder.") from error
    trained = _trained(module)
    names = {id(parameter): name for name, parameter in trained.items()}
    if set(trained) != set(parts[0]["weights"]):
        raise CheckpointError(f"{path}: the state of another model.", fix="Pass another --out, or remove that folder.")
    with torch.no_grad():
        for name, parameter in trained.items():
            _fill(parameter, _joined([part["weights"][name] for part in parts], parameter))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            saved = [part["optimizer"].get(name) for part in parts]
            if saved[0] is None:
                continue
            state: dict[str, Tensor] = {"step": saved[0]["step"].clone()}
            for key in ("exp_avg", "exp_avg_sq"):
                moment = torch.zeros_like(parameter)
                _fill(moment, _joined([s[key] for s in saved], parameter))
                state[key] = moment
            optimizer.state[parameter] = state
    return meta


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _copied(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """This rank's part of the state, on the CPU."""
    weights = {name: _own(parameter) for name, parameter in _trained(module).items()}
    moments: dict[str, dict[str, Tensor]] = {}
    for name, parameter in _trained(module).items():
        if state := optimizer.state.get(parameter):
            moments[name] = {key: _own(value) for key, value in state.items()}
    return {"weights": weights, "optimizer": moments}


def _own(tensor: Tensor) -> Tensor:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.detach().to("cpu", copy=True)


def _joined(shards: Sequence[Tensor], like: Tensor) -> Tensor:
    """One tensor from the shards of all ranks, which divide its first dimension."""
    joined = torch.cat(list(shards)) if len(shards) > 1 else shards[0]
    return joined.view(like.shape)


def _fill(tensor: Tensor, content: Tensor) -> None:
    """Copy a whole tensor into one of which this rank may have only a shard."""
    if not hasattr(tensor, "to_local"):
        tensor.copy_(content)
        return
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(tensor, DTensor)
    own = distribute_tensor(content.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.to_local().copy_(own.to_local())
