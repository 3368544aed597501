"""Parity with the original implementation, on its own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from flamingo_eval import DecodeSpec, Image, Pixels, Prompt, RankSpec
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.engine import reference
from flamingo_eval.models.convert.openflamingo import convert_openflamingo

DATA = Path(__file__).parent.parent / "data" / "openflamingo"
EVERY = {"opt": 1, "neox": 2}


def convert(name: str, out: Path, vision: str = "vision_hf", **changes: Any) -> Path:
    folder = DATA / name
    paths: dict[str, Any] = {
        "checkpoint": folder / "checkpoint.pt",
        "language_model": folder / "lm",
        "vision": folder / vision,
        "tokenizer": folder / "tokenizer",
        "cross_attention_every": EVERY[name],
    }
    convert_openflamingo(**{**paths, **changes}, out=out)
    return out


class Fixture:
    def __init__(self, name: str, model: Model) -> None:
        self.model, self.folder = model, DATA / name
        self.json = json.loads((DATA / name / "expected.json").read_text())
        self.expected = load_file(DATA / name / "expected.safetensors")
        self.inputs = load_file(DATA / name / "inputs.safetensors")

    def prompt(self, row: int, as_pixels: bool = False) -> Prompt:
        parts: list[str | Image | Pixels] = []
        texts = self.json["prompts"][row].split("<image>")
        for i, text in enumerate(texts):
            if i:
                index = int(self.inputs["image_index"][row, i - 1])
                image = Image(self.folder / "images" / f"{index}.png")
                parts.append(Pixels(self.inputs["pixel_values"][index]) if as_pixels else image)
            parts.append(text)
        return Prompt(parts)

    def logits(self, row: int) -> torch.Tensor:
        return self.expected["logits"][row][self.inputs["attention_mask"][row].bool()]


@pytest.fixture(
    scope="module", params=["opt-vision_hf", "opt-vision_open_clip", "neox-vision_hf", "neox-vision_open_clip"]
)
def fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    name, vision = request.param.split("-")
    return Fixture(name, load_flamingo_model(convert(name, tmp_path_factory.mktemp("models") / request.param, vision)))


@pytest.mark.slow
def test_pixels(fixture: Fixture) -> None:
    for i in range(6):
        pixels = fixture.model.pixels(Image(fixture.folder / "images" / f"{i}.png"))
        assert_close(pixels[0], fixture.inputs["pixel_values"][i], atol=1e-6, rtol=0)


def test_vision_tokens_and_resampled(fixture: Fixture) -> None:
    for i in range(6):
        pixels = Pixels(fixture.inputs["pixel_values"][i])
        assert_close(fixture.model.features(pixels)[0], fixture.expected["vision_tokens"][i], atol=1e-5, rtol=0)
        assert_close(fixture.model.visual_tokens(pixels), fixture.expected["resampled"][i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", range(4))
def test_token_ids(fixture: Fixture, row: int) -> None:
    ids = fixture.inputs["input_ids"][row][fixture.inputs["attention_mask"][row].bool()]
    assert list(fixture.model.encode(fixture.prompt(row)).ids) == ids.tolist()


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("as_pixels", [False, True])
def test_logits_at_every_position(fixture: Fixture, row: int, as_pixels: bool) -> None:
    assert_close(fixture.model.logits(fixture.prompt(row, as_pixels)), fixture.logits(row), atol=2e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("greedy", DecodeSpec(beams=1, max_new_tokens=12)),
        ("beam3_lp0", DecodeSpec(beams=3, max_new_tokens=12)),
        ("beam3_lp1_new_tokens_only", DecodeSpec(beams=3, max_new_tokens=12, length_penalty=1.0)),
    ],
)
def test_generated_ids(fixture: Fixture, kind: str, spec: DecodeSpec) -> None:
    ids = [reference.generate_ids(fixture.model, fixture.prompt(row), spec) for row in range(4)]
    assert ids == fixture.json["generated"][kind]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "beams"), [("greedy", 1), ("beam3_lp0", 3)])
def test_generated_text(fixture: Fixture, kind: str, beams: int) -> None:
    prompts = [fixture.prompt(row) for row in range(4)]
    texts = fixture.model.generate(prompts, DecodeSpec(beams=beams, max_new_tokens=12))
    assert texts == fixture.json["strings"][kind]


@pytest.mark.parametrize("normalise", ["sum", "mean"])
def test_candidate_log_probabilities(fixture: Fixture, normalise: Any) -> None:
    prompts = [fixture.prompt(row) for row in range(4)]
    scores = fixture.model.score(prompts, [fixture.json["class_names"]] * 4, RankSpec(normalise=normalise))
    assert_close(torch.tensor(scores), fixture.expected[f"class_logprobs_{normalise}"], atol=2e-4, rtol=0)


def test_a_padded_batch_gives_each_row_its_own_logits(fixture: Fixture) -> None:
    from flamingo_eval.models.decoder import causal_mask

    model, inputs = fixture.model, fixture.inputs
    assert model.tokenizer.image_id is not None
    real = inputs["attention_mask"].bool()
    tokens = inputs["input_ids"]
    width = tokens.shape[1]
    visual = torch.zeros(4, 3, *fixture.expected["resampled"].shape[1:])
    for row, column in (inputs["image_index"] >= 0).nonzero().tolist():
        visual[row, column] = fixture.expected["resampled"][inputs["image_index"][row, column]]
    sees = tokens.eq(model.tokenizer.image_id).cumsum(1)
    with torch.inference_mode():
        logits = model.flamingo(tokens, model.flamingo.project_visual(visual), sees, mask=causal_mask(real, width))
    assert logits.isfinite().all()
    assert_close(logits[real], fixture.expected["logits"][real], atol=2e-4, rtol=0)
