from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from flamingo_eval.models.config import NFNetConfig
from flamingo_eval.models.nfnet import NFNet, StandardisedConv
from flamingo_eval.models.presets import NFNETS

GOLDEN = Path(__file__).parent.parent / "data" / "nfnet" / "golden.safetensors"
CASES = {
    "small": NFNetConfig(
        depths=(1, 2, 2, 1), widths=(16, 32, 48, 48), stem_width=16, group_width=8, final_width=96, image_size=64
    ),
    "odd": NFNetConfig(
        depths=(2, 1, 1, 1), widths=(32, 32, 32, 32), stem_width=8, group_width=16, final_width=64, image_size=57
    ),
}
NAMES = (
    (r"stem\.conv(\d)\.", lambda m: f"stem.{int(m[1]) - 1}."),
    (r"attn_last\.fc1", "attention.squeeze"),
    (r"attn_last\.fc2", "attention.excite"),
    (r"downsample\.conv", "shortcut"),
    (r"\.conv3\.", ".conv4."),
    (r"\.conv2b\.", ".conv3."),
    (r"skipinit_gain", "branch_gain"),
    (r"^final_conv", "final"),
)


def ours(name: str) -> str:
    for theirs, replacement in NAMES:
        name = re.sub(theirs, replacement, name)
    return name


def load_case(case: str) -> tuple[NFNet, torch.Tensor, torch.Tensor]:
    golden = {name.split("/")[1]: t for name, t in load_file(GOLDEN).items() if name.startswith(case)}
    pixels, features = golden.pop("pixels"), golden.pop("features")
    model = NFNet(CASES[case]).eval().requires_grad_(False)
    shapes = {name: parameter.shape for name, parameter in model.state_dict().items()}
    model.load_state_dict({ours(name): t.reshape(shapes[ours(name)]) for name, t in golden.items()}, strict=True)
    return model, pixels, features


@pytest.mark.parametrize("case", CASES)
def test_features_equal_timm(case: str) -> None:
    model, pixels, features = load_case(case)
    assert_close(model(pixels), features.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_positions_are_what_the_config_says(case: str) -> None:
    model, pixels, _ = load_case(case)
    assert model(pixels).shape[1:] == (model.config.positions, model.config.width)


def test_grid_of_the_paper_at_its_resolutions() -> None:
    positions = {size: NFNetConfig(image_size=size).positions for size in (288, 320, 480)}
    assert positions == {288: 81, 320: 100, 480: 225}


def test_f6_has_the_published_size_and_the_others_its_fractions() -> None:
    def count(name: str) -> float:
        with torch.device("meta"):
            return sum(p.numel() for p in NFNet(NFNETS[name]).parameters()) / 1e6

    assert round(count("F6")) == 435  # Flamingo v2 table 5
    assert NFNETS["F0"].depths == (1, 2, 6, 3)
    assert 60 < count("F0") < 75  # 71.5M with the classifier's 3.1M


def test_weights_are_standardised() -> None:
    convolution = StandardisedConv(8, 4, 3)
    with torch.no_grad():
        convolution.weight.normal_(3.0, 5.0, generator=torch.Generator().manual_seed(0))
        convolution.gain.fill_(2.0)
    weight = convolution.standardised_weight().flatten(1)
    assert_close(weight.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    assert_close(weight.pow(2).sum(1), torch.full((4,), 4.0), atol=1e-4, rtol=1e-4)  # gain^2


def test_folded_pixels_keep_every_pixel() -> None:
    config = NFNetConfig(image_size=16, depths=(1,), widths=(8,), stem="space_to_depth", stem_width=8, group_width=4)
    model = NFNet(config)
    pixels = torch.zeros(1, 3, 16, 16, requires_grad=True)
    model(pixels).square().sum().backward()
    assert pixels.grad is not None
    assert (pixels.grad != 0).all()
