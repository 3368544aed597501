"""Identity of a model without loading its weights: name, sha256, device and dtype."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.models import model_folder
from flamingo_eval.models.checkpoint_files import CONFIG, checkpoint_sha256
from flamingo_eval.models.config_json import read_config

GPU_NODES = ("dev/nvidia*", "dev/dxg", "dev/kfd")  # device files of the drivers of NVIDIA, WSL and AMD


def model_identity(model: str | Path, device: str = "auto", dtype: str = "auto") -> ModelIdentity:
    """The identity of a model by name or folder, as it would be after loading. Raises CheckpointError, UsageError."""
    folder = model_folder(model)
    kind, number_format = resolved_device(device, dtype)
    return ModelIdentity(read_config(folder / CONFIG).name, checkpoint_sha256(folder), kind, number_format)


def resolved_device(device: str, dtype: str) -> tuple[str, str]:
    """Device type and dtype by name, `auto` resolved. PyTorch is imported only if there may be a GPU."""
    on_cpu = device == "cpu" or (device == "auto" and not _may_have_gpu())
    if on_cpu and dtype in ("auto", "float32"):
        return "cpu", "float32"
    from flamingo_eval.models.loaded import choose_device, choose_dtype

    resolved = choose_device(device)
    return resolved.type, str(choose_dtype(dtype, resolved)).removeprefix("torch.")


def _may_have_gpu() -> bool:
    return any(next(Path("/").glob(pattern), None) is not None for pattern in GPU_NODES)
