"""Makes golden.safetensors: small NFNets of timm with random weights, a picture, and what timm computes from them.

timm imports torchvision, which needs a build that fits torch's; its image transforms are not used here, so an empty
stand-in is enough. Run once: `pip install --no-deps --target DIR timm && PYTHONPATH=DIR python make_golden.py`.
Made with timm 1.0.31, torch 2.13.0.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file


class _StandIn(Loader):
    """Finds an empty module for anything below `torchvision`."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

    def create_module(self, spec: ModuleSpec) -> MagicMock:
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__version__ = [], spec, "0.0.0"
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


sys.meta_path.insert(0, _StandIn())

from timm.models.nfnet import NormFreeNet, _dm_nfnet_cfg  # noqa: E402

CASES = {  # depths, widths, stem width, group width
    "small": ((1, 2, 2, 1), (16, 32, 48, 48), 16, 8),
    "odd": ((2, 1, 1, 1), (32, 32, 32, 32), 8, 16),
}


def main() -> None:
    golden: dict[str, torch.Tensor] = {}
    for case, (depths, widths, stem, group) in CASES.items():
        config = _dm_nfnet_cfg(depths=depths, channels=widths)
        model = NormFreeNet(replace(config, stem_chs=stem, group_size=group))
        generator = torch.Generator().manual_seed(len(case))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1 + 0.2 * noise if name.endswith("gain") else 0.3 * noise)
        model.eval()
        size = 64 if case == "small" else 57
        pixels = torch.randn(2, 3, size, size, generator=generator)
        with torch.inference_mode():
            features = model.forward_features(pixels)
        golden |= {f"{case}/{name}": t for name, t in model.state_dict().items() if not name.startswith("head.")}
        golden |= {f"{case}/pixels": pixels, f"{case}/features": features.contiguous()}
    save_file(golden, Path(__file__).with_name("golden.safetensors"))


if __name__ == "__main__":
    main()
