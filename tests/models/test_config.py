from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.config import NFNetConfig, PoolingConfig, ViTConfig
from flamingo_eval.models.config_json import read_config, write_config
from flamingo_eval.models.flamingo import parameter_counts
from flamingo_eval.models.initialise import new_flamingo
from flamingo_eval.models.presets import PRESETS, TINY, preset


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_config_json(tmp_path: Path, name: str) -> None:
    write_config(PRESETS[name], tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == PRESETS[name]


def test_every_value_is_written(tmp_path: Path) -> None:
    write_config(TINY, tmp_path / "config.json")
    written = json.loads((tmp_path / "config.json").read_text())
    assert set(written["decoder"]) == {field.name for field in dataclasses.fields(TINY.decoder)}
    assert written["vision"]["kind"] == "nfnet"


def test_all_problems_of_a_config_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(TINY, path)
    values = json.loads(path.read_text())
    values["decoder"]["layer"] = values["decoder"].pop("layers")
    values["decoder"]["norm"] = "rmsnrom"
    values["xattn"]["heads"] = "six"
    values["resampler"]["width"] = 1.5
    values["vision"]["depths"] = 3
    values["preprocess"] = []
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError) as caught:
        read_config(path)
    message = str(caught.value)
    assert "7 problems" in message
    for text in (
        "decoder: unknown key 'layer'. Did you mean 'layers'?",
        "decoder: key 'layers' is missing.",
        "decoder.norm: expected one of layernorm, rmsnorm, got 'rmsnrom'. Did you mean 'rmsnorm'?",
        "xattn.heads: expected an integer, got 'six'.",
        "resampler.width: expected an integer, got 1.5.",
        "vision.depths: expected a list, got 3.",
        "preprocess: expected keys and values, got a list.",
    ):
        assert text in message


def test_sizes_that_no_network_has_are_named_together(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(TINY, path)
    values = json.loads(path.read_text())
    values["resampler"]["grid"] = -64
    values["xattn"]["every"] = 0
    values["vision"]["widths"][1] = -1
    values["vision"]["squeeze"] = -0.5
    values["decoder"]["width"] = 2**31
    values["decoder"]["rotary_base"] = 1e8  # large, and right for long contexts
    values["resampler"]["frames"] = 0  # means: not distinguished
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError) as error:
        read_config(path)
    text = str(error.value)
    assert "5 problems" in text
    assert "decoder.width: expected at most 16777216, got 2147483648" in text
    assert "resampler.grid: expected 0 or more, got -64" in text
    assert "xattn.every: expected 1 or more, got 0" in text
    assert "vision.widths: expected 1 or more, got -1" in text
    assert "vision.squeeze: expected 0 or more, got -0.5" in text


def test_the_kind_of_encoder_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(TINY, path)
    values = json.loads(path.read_text())
    values["vision"]["kind"] = "resnet"
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"vision.kind: expected one of nfnet, vit, got 'resnet'"):
        read_config(path)


def test_foreign_folders_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "idefics"}))
    with pytest.raises(CheckpointError, match="flamingo-eval convert"):
        read_config(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        read_config(path)


def test_unknown_presets_have_a_suggestion() -> None:
    with pytest.raises(CheckpointError, match="Did you mean 'flamingo-3b'"):
        preset("flamingo-3B")


# Flamingo v2 tables 4 and 5, in millions; then what its printed shapes give, where they do not close
PAPER = {
    "flamingo-3b": {"vision": 435, "resampler": 194, "xattn": 1_200, "decoder": 1_400},
    "flamingo-9b": {"vision": 435, "resampler": 194, "xattn": 1_600, "decoder": 7_100},
    "flamingo-80b": {"vision": 435, "resampler": 194, "xattn": 10_000, "decoder": 70_000},
}
SHAPES = {
    "flamingo-3b": {"vision": 435, "resampler": 175, "xattn": 1_158, "decoder": 1_374},
    "flamingo-9b": {"vision": 435, "resampler": 175, "xattn": 1_804, "decoder": 8_856},
    "flamingo-80b": {"vision": 435, "resampler": 175, "xattn": 8_355, "decoder": 70_058},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_parameter_counts_beside_the_paper(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {part: round(n / 1e6) for part, n in parameter_counts(preset(name)).items()}
    with capsys.disabled():
        print(f"\n{name:>14} {'ours':>9} {'paper':>9}  (millions)")
        for part, n in counts.items():
            print(f"{part:>14} {n:>9,} {PAPER[name][part]:>9,}")
        print(f"{'total':>14} {sum(counts.values()):>9,} {sum(PAPER[name].values()):>9,}")
    assert counts == SHAPES[name]


def test_published_sizes_of_the_others() -> None:
    def billions(name: str) -> dict[str, float]:
        return {part: round(n / 1e9, 1) for part, n in parameter_counts(preset(name)).items()}

    assert billions("openflamingo-3b") == {"vision": 0.3, "resampler": 0.1, "xattn": 0.9, "decoder": 1.3}
    assert billions("openflamingo-9b") == {"vision": 0.3, "resampler": 0.1, "xattn": 1.1, "decoder": 6.6}
    assert billions("idefics-80b") == {"vision": 0.6, "resampler": 0.1, "xattn": 13.9, "decoder": 65.3}


def test_gated_blocks_of_the_presets() -> None:
    blocks = {
        name: preset(name).xattn_blocks for name in ("flamingo-9b", "flamingo-80b", "openflamingo-9b", "idefics-9b")
    }
    assert blocks["flamingo-9b"] == tuple(range(0, 40, 4))  # 10 layers, as table 4 says
    assert blocks["flamingo-80b"] == tuple(range(0, 80, 7))  # 12
    assert blocks["openflamingo-9b"] == tuple(range(3, 32, 4))
    assert blocks["idefics-9b"] == tuple(range(0, 32, 4))


def test_tiny_is_tiny_and_the_same_for_a_seed() -> None:
    assert sum(parameter_counts(TINY).values()) < 6e6  # at most 12 MB in half precision
    one, same, other = (new_flamingo(TINY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["decoder.embedding.weight"], other["decoder.embedding.weight"])


def test_visual_positions() -> None:
    assert NFNetConfig().positions == 100
    assert ViTConfig().positions == 256
    assert ViTConfig(class_token=True).positions == 257


def test_a_file_from_before_a_choice_existed_means_what_it_meant(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(TINY, path)
    values = json.loads(path.read_text())
    del values["resampler"]["kind"], values["xattn"]["sees"]
    path.write_text(json.dumps(values))
    assert read_config(path) == TINY


def test_pooling_needs_a_square_grid(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(dataclasses.replace(TINY, vision=ViTConfig(class_token=True), resampler=PoolingConfig()), path)
    with pytest.raises(CheckpointError, match=r"resampler.kind: 257 positions of the encoder do not form a square"):
        read_config(path)
