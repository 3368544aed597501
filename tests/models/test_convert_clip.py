"""Vision towers in all the forms in which CLIP is distributed."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.convert.clip import Tower, read_tower
from flamingo_eval.models.convert.tensor_map import TensorMap
from flamingo_eval.models.vit import ViT
from tests.support.openflamingo_files import tower_state, write_vision

DATA = Path(__file__).parent.parent / "data" / "openflamingo"


def vit_of(tower: Tower) -> ViT:
    with torch.device("meta"):
        vit = ViT(tower.config)
    tensor_map = TensorMap({f"vision.{name}": tuple(t.shape) for name, t in vit.state_dict().items()})
    tensor_map.add("vision.", tower.table, tower.weights, "tower")
    plans = tensor_map.finish("tower")
    vit.load_state_dict({name[7:]: plan.make() for name, plan in plans.items()}, assign=True)
    return vit.eval().requires_grad_(False)


def pixels(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("whole", [True, False], ids=["CLIPModel", "CLIPVisionModel"])
def test_hugging_face_towers_equal_transformers(tmp_path: Path, activation: str, whole: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=20, patch_size=5,
        hidden_act=activation, layer_norm_eps=1e-3,
    )  # fmt: skip
    if whole:
        text = {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 8,
            "vocab_size": 9,
        }
        both = transformers.CLIPConfig(text_config=text, vision_config=config.to_dict(), projection_dim=4)
        model = transformers.CLIPModel(both)
    else:
        model = transformers.CLIPVisionModel(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.eval().save_pretrained(tmp_path)
    tower = read_tower(tmp_path, None)
    assert tower.preprocess.size == 20
    x = pixels(20)
    with torch.inference_mode():
        vision = model.vision_model if whole else model
        states = vision(pixel_values=x, output_hidden_states=True)
    assert_close(vit_of(tower)(x), states.last_hidden_state[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_folders_of_the_hub(tmp_path: Path, file: str) -> None:
    write_vision(tmp_path / "old", torch.Generator().manual_seed(0))
    new = tmp_path / "new"
    new.mkdir()
    model = json.loads((tmp_path / "old" / "model_config.json").read_text())
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    both = {"model_cfg": model, "preprocess_cfg": {"mean": mean, "std": std}}
    (new / "open_clip_config.json").write_text(json.dumps(both))
    weights = load_file(tmp_path / "old" / "open_clip_model.safetensors")
    torch.save(weights, new / file) if file.endswith("bin") else save_file(weights, new / file)
    one, other = read_tower(tmp_path / "old", None), read_tower(new, None)
    assert torch.equal(vit_of(one)(pixels(8)), vit_of(other)(pixels(8)))
    assert (other.preprocess.mean, other.preprocess.std) == (tuple(mean), tuple(std))


@pytest.mark.parametrize("wrapped", [True, False])
def test_plain_state_dicts_with_a_config_file(tmp_path: Path, wrapped: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    write_vision(tmp_path / "folder", generator)
    state: dict[str, Any] = load_file(tmp_path / "folder" / "open_clip_model.safetensors")
    if wrapped:  # as open_clip's own training saves it
        state = {"epoch": 1, "state_dict": {f"module.{name}": t for name, t in state.items()}}
    torch.save(state, tmp_path / "clip.pt")
    tower = read_tower(tmp_path / "clip.pt", str(tmp_path / "folder" / "model_config.json"))
    assert torch.equal(vit_of(tower)(pixels(8)), vit_of(read_tower(tmp_path / "folder", None))(pixels(8)))


@pytest.mark.parametrize(
    ("name", "openai", "activation", "notes"),
    [
        ("ViT-L-14", True, "quick_gelu", 0),
        ("ViT-L-14", False, "quick_gelu", 1),
        ("ViT-L-14-quickgelu", False, "quick_gelu", 0),
        ("ViT-L-14-gelu", False, "gelu", 0),
        ("ViT-H-14", False, "gelu", 0),
    ],
)
def test_named_towers_and_their_activation(
    tmp_path: Path, name: str, openai: bool, activation: str, notes: int
) -> None:
    state = tower_state(8, torch.Generator().manual_seed(0))
    if openai:
        state |= {"input_resolution": torch.tensor(224), "vocab_size": torch.tensor(49408)}
    torch.save(state, tmp_path / "clip.pt")
    tower = read_tower(tmp_path / "clip.pt", name)
    assert (tower.config.patch, tower.config.activation, len(tower.notes)) == (14, activation, notes)
    assert tower.config.width // tower.config.heads == (80 if "H" in name else 64)


def test_what_cannot_be_a_tower(tmp_path: Path) -> None:
    state = tmp_path / "clip.pt"
    torch.save(tower_state(8, torch.Generator().manual_seed(0)), state)
    with pytest.raises(CheckpointError, match="how many heads"):
        read_tower(state, None)
    with pytest.raises(CheckpointError, match="Did you mean 'ViT-L-14'"):
        read_tower(state, "ViT-L14")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        read_tower(tmp_path / "absent", None)
    with pytest.raises(CheckpointError, match="neither a config"):
        read_tower(tmp_path, None)
    (tmp_path / "model_config.json").write_text(json.dumps({"vision_cfg": {"layers": [3, 4, 6, 3], "width": 64}}))
    with pytest.raises(CheckpointError, match="does not describe open_clip's own vision transformer"):
        read_tower(tmp_path, str(state))


@pytest.mark.slow
def test_openais_archives_say_how_to_get_their_tensors(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(layer), str(tmp_path / "ViT-L-14.pt"))
    with pytest.raises(CheckpointError) as caught:
        read_tower(tmp_path / "ViT-L-14.pt", "ViT-L-14")
    command = str(caught.value).split('python -c "')[1].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True, capture_output=True)
    assert set(torch.load(tmp_path / "ViT-L-14-state.pt", weights_only=True)) == {"weight", "bias"}


def test_pixels_that_do_not_fit_the_tower(tmp_path: Path) -> None:
    folder = tmp_path / "vision"
    folder.mkdir()
    for file in (DATA / "opt" / "vision_hf").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "crop_size": 64}))
    with pytest.raises(CheckpointError, match="crops to 64, the tower expects 32"):
        read_tower(folder, None)


def test_a_folder_of_two_formats(tmp_path: Path) -> None:
    """As LAION publishes its towers: both pairs side by side, either of which fits."""
    for source in ("vision_open_clip", "vision_hf"):
        for file in (DATA / "neox" / source).iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model_config.json").rename(tmp_path / "open_clip_config.json")
    expected = vit_of(read_tower(DATA / "neox" / "vision_hf", None))(pixels(32))
    assert_close(vit_of(read_tower(tmp_path, None))(pixels(32)), expected, atol=1e-5, rtol=1e-5)
    (tmp_path / "open_clip_visual.safetensors").unlink()
    assert torch.equal(vit_of(read_tower(tmp_path, None))(pixels(32)), expected)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("act_kwargs", {"act_kwargs": {"approximate": "tanh"}}),  # beside quick GELU, which takes none
        ("norm_kwargs.elementwise_affine", {"norm_kwargs": {"elementwise_affine": "x"}}),
        ("scaled_cosine", {"scaled_cosine": True}),
        ("qk_norm", {"qk_norm": True}),
        ("input_patchnorm", {"input_patchnorm": True}),
        ("something_new", {"something_new": 3}),
    ],
)
def test_options_of_open_clip_that_show_in_no_tensor(tmp_path: Path, key: str, options: dict[str, object]) -> None:
    write_vision(tmp_path / "vision", torch.Generator().manual_seed(0))
    path = tmp_path / "vision" / "model_config.json"
    values = json.loads(path.read_text())
    values["vision_cfg"] |= options
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=rf"vision_cfg\.{key}: .* is not supported"):
        read_tower(tmp_path / "vision", None)


def test_options_of_open_clip_that_are_honoured(tmp_path: Path) -> None:
    write_vision(tmp_path / "vision", torch.Generator().manual_seed(0))
    path = tmp_path / "vision" / "model_config.json"
    values = json.loads(path.read_text()) | {"quick_gelu": False}
    values["vision_cfg"] |= {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}, "patch_dropout": 0.5}
    pixels = {"interpolation": "bilinear", "resize_mode": "squash", "size": [8, 8]}
    path.write_text(json.dumps({"model_cfg": values, "preprocess_cfg": pixels}))
    tower = read_tower(tmp_path / "vision", None)
    assert (tower.config.activation, tower.config.norm_eps) == ("gelu_tanh", 1e-3)
    assert (tower.preprocess.fit, tower.preprocess.resample) == ("squash", "bilinear")
