"""Foreign weights on disk, read one tensor at a time: safetensors, PyTorch files, shards of either.

PyTorch files are memory-mapped and unpickled with `weights_only=True`: no code of theirs runs.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flamingo_eval.errors import CheckpointError, Problem, problems_in
from flamingo_eval.files import placeholder
from flamingo_eval.models.checkpoint import open_safetensors
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.convert.weight_names import plain_name, quantised

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
_DTYPES |= {"BOOL": torch.bool, "U8": torch.uint8, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
_DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}

# Files of weights in a folder, in order of preference; an index names shards. LAION's folders have both kinds.
HUGGING_FACE_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_visual.safetensors", "open_clip_pytorch_model.bin")

# Errors of PyTorch's loader on broken files; its unpickler runs a list of operations, which a flipped bit corrupts.
_BROKEN_PICKLE: tuple[type[Exception], ...] = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)
_BROKEN_PICKLE += (zipfile.BadZipFile, struct.error, OverflowError, MemoryError, ImportError)


@dataclass(frozen=True, slots=True)
class ForeignTensor:
    """One tensor of a foreign file: its name, shape and type; `read` reads its values."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


Weights = Mapping[str, ForeignTensor]


def folder_weights(folder: Path, files: Sequence[str] = HUGGING_FACE_FILES + OPEN_CLIP_FILES) -> Weights:
    """All tensors of a folder, by name; the first of `files` that exists is read. Raises CheckpointError."""
    path = next((folder / name for name in files if (folder / name).is_file()), None)
    if path is None:
        others = sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".bin", ".pt"))
        if len(others) != 1:
            names = ", ".join(p.name for p in others) or "none"
            raise CheckpointError(f"{folder}: no weights. Looked for {', '.join(files)}; files of weights: {names}.")
        path = others[0]
    weights = _sharded(path) if path.name.endswith(".index.json") else file_weights(path)
    if quantised_format := quantised((name, foreign.dtype) for name, foreign in weights.items()):
        raise quantised_error(path, quantised_format)
    return weights


def quantised_error(path: Path, what: str) -> CheckpointError:
    """The error for a quantised model; `what` is the evidence."""
    return CheckpointError(
        f"{path}: quantised weights ({what}), whose numbers are packed; expected float32, bfloat16 or float16.",
        fix="Give the folder of the original model that was quantised.",
    )


def _sharded(index_path: Path) -> Weights:
    folder = index_path.parent
    shards = read_json(index_path).get("weight_map", {})
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise problems_in(index_path, [Problem("expected file names by tensor.", key="weight_map")], CheckpointError)
    paths = [folder / name for name in dict.fromkeys(shards.values())]
    missing_shards = [Problem(f"shard {path.name} is missing.") for path in paths if not path.is_file()]
    if missing_shards or not paths:
        raise problems_in(
            index_path, missing_shards or [Problem("it lists no tensors.", key="weight_map")], CheckpointError
        )
    weights: dict[str, ForeignTensor] = {}
    for path in paths:
        weights |= file_weights(path)
    missing_tensors = [Problem(f"missing from {shards[n]}.", key=n) for n in shards if plain_name(n) not in weights]
    if missing_tensors:
        raise problems_in(index_path, missing_tensors, CheckpointError)
    return weights


def file_weights(path: Path) -> Weights:
    """All tensors of one file: safetensors, or a PyTorch state dict, bare or below a key. Raises CheckpointError.

    Keys are plain names (weight_names.py); `ForeignTensor.name` is the name in the file.
    """
    if path.suffix == ".safetensors":
        tensors = _safetensors(path)
    else:
        state = _state_dict(path)
        tensors = [ForeignTensor(n, path, tuple(t.shape), t.dtype, _torch_reader(path, n)) for n, t in state.items()]
    weights: dict[str, ForeignTensor] = {}
    for foreign in tensors:
        twin = weights.setdefault(plain_name(foreign.name), foreign)
        if twin is not foreign:
            raise CheckpointError(f"{path}: {twin.name} and {foreign.name} are names of the same tensor: remove one.")
    return weights


def renamed(weights: Weights, rename: Callable[[str], str | None]) -> dict[str, ForeignTensor]:
    """The tensors under the names that `rename` gives; those renamed to None are left out."""
    pairs = ((rename(name), foreign) for name, foreign in weights.items())
    return {name: foreign for name, foreign in pairs if name is not None}


def without_prefix(weights: Weights, prefix: str) -> dict[str, ForeignTensor]:
    """The tensors whose names begin with `prefix`, under their names without it."""
    return {name[len(prefix) :]: foreign for name, foreign in weights.items() if name.startswith(prefix)}


def _safetensors(path: Path) -> list[ForeignTensor]:
    weights: list[ForeignTensor] = []
    with open_safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            piece = file.get_slice(name)
            dtype = _DTYPES.get(piece.get_dtype())
            if dtype is None:
                raise CheckpointError(f"{path}: {name} is stored as {piece.get_dtype()}, which is not supported.")
            weights.append(ForeignTensor(name, path, tuple(piece.get_shape()), dtype, _safetensors_reader(path, name)))
    return weights


def _safetensors_reader(path: Path, name: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with open_safetensors(path) as file:  # opened for each tensor, so that its pages are released
            tensor: Tensor = file.get_tensor(name)
            return tensor

    return read


def _torch_reader(path: Path, name: str) -> Callable[[], Tensor]:
    return lambda: _state_dict(path)[name]


def close_files() -> None:
    """Close the memory-mapped PyTorch files."""
    _mapped.cache_clear()


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a PyTorch file, memory-mapped if its format allows."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    stat = path.stat()
    return _mapped(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)  # a checkpoint and one shard of a language model
def _mapped(path: Path, size: int, mtime_ns: int) -> Mapping[str, Tensor]:
    del size, mtime_ns  # only part of the cache key: a changed file is another file
    loaded: Any = _load(path)
    for key in ("model_state_dict", "state_dict", "module", "model"):  # `module`: DeepSpeed
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: expected a state dict, got {_shown(loaded)}.")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def _load(path: Path) -> object:
    if instead := placeholder(path):
        raise CheckpointError(f"{path}: {instead}")
    if _is_torchscript(path):
        file_name = f"{path.stem}-state.pt"
        raise CheckpointError(
            f"{path}: a TorchScript archive (like OpenAI's CLIP), which contains code. Only tensors are read.",
            fix='If you trust it, save its tensors once: python -c "import torch; '
            f"torch.save(torch.jit.load('{path.name}', map_location='cpu').state_dict(), '{file_name}')\"",
        )
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format before PyTorch 1.6
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to load without that protection
        global_ = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f": it holds a {global_.group(1)}" if global_ else ", or it is damaged"
        raise CheckpointError(
            f"{path}: not a plain PyTorch file of tensors{reason}.", fix="Only tensors are read, never code."
        ) from error
    except _BROKEN_PICKLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: truncated or damaged PyTorch file: {reason}", fix="Copy or download the file again."
        ) from error


def _is_torchscript(path: Path) -> bool:
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError):  # a broken file: torch's text says how
        return False


def _shown(loaded: object) -> str:
    if isinstance(loaded, dict):
        return f"keys {', '.join(map(str, list(loaded)[:5]))}" if loaded else "an empty dict"
    return type(loaded).__name__


def total_bytes(weights: Iterable[ForeignTensor]) -> int:
    """Size of tensors as stored."""
    return sum(torch.Size(w.shape).numel() * w.dtype.itemsize for w in weights)
