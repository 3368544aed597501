"""Pictures that a family's own code treats unlike others: of one token, of several crops, without a field."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage
from transformers.modeling_outputs import BaseModelOutputWithPooling

from flamingo_eval import DecodeSpec, Image, Prompt, load_model
from flamingo_eval.backends.hf.features import joined_features, of_one_picture, tensor_names
from flamingo_eval.backends.hf.model import HFModel
from flamingo_eval.backends.hf.pictures import Layout, PictureFields
from flamingo_eval.backends.hf.prefix_cache import picture_tokens
from tests.support.more_tiny_vlm import MORE_FAMILIES
from tests.support.tiny_vlm import FAMILIES, save_tiny

CANDIDATES = (" snow", " a red kite")
GREEDY = DecodeSpec(beams=1, max_new_tokens=6)


def loaded(family: str, folder: Path) -> HFModel:
    model = load_model(f"hf:{save_tiny(family, folder, {**FAMILIES, **MORE_FAMILIES}[family])}")
    assert isinstance(model, HFModel)
    return model


def test_a_picture_of_one_token_is_encoded_like_any_other(tmp_path: Path) -> None:
    """Mistral 3's own code fails for it alone, and answers it beside others."""
    model = loaded("mistral3", tmp_path / "model")
    pictures = []
    for i, size in enumerate(((16, 16), (48, 32))):
        path = tmp_path / f"{i}.png"
        PillowImage.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 20 + i).convert("RGB").save(path)
        pictures.append(Image(path))
    small, large = pictures
    prompts = [Prompt([small, "A dot.\n", large, "This is"]), Prompt([large, "A set.\n", small, small, "This is"])]
    assert model.encode(prompts[0]).count(model.network.model.config.image_token_index) == 1 + 4
    scores, texts = model.score(prompts, [CANDIDATES] * 2), model.generate(prompts, GREEDY)
    engine = model.engine
    assert engine.fast
    engine.fast, engine.own = False, True
    for row, own in zip(scores, model.score(prompts, [CANDIDATES] * 2), strict=True):
        assert row == pytest.approx(own, abs=2e-4)
    assert model.generate(prompts, GREEDY) == texts


def test_fields_that_only_some_pictures_have_are_joined() -> None:
    """Step 3.7 returns local crops and their line ends only for pictures that are cut."""
    pixels = torch.zeros(1, 3, 8, 8)
    whole = PictureFields({"pixel_values": pixels, "num_local_patches": [0]})
    cut = PictureFields(
        {
            "pixel_values": pixels, "num_local_patches": [2], "pixel_values_local": torch.zeros(2, 3, 4, 4),
            "patch_newline_masks": [[True, False]],
        }
    )  # fmt: skip
    two = {"pixel_values": torch.zeros(2, 3, 8, 8), "num_local_patches": [0, 0]}
    layout = Layout.learned(whole.fields, two)
    assert set(layout.joined([whole, whole])) == {"pixel_values", "num_local_patches"}
    fields = layout.joined([whole, cut, cut])
    assert fields["num_local_patches"] == [0, 2, 2]
    assert fields["patch_newline_masks"] == [[], [True, False], [True, False]]
    assert fields["pixel_values_local"].shape == (4, 3, 4, 4)


def test_features_have_one_form_whatever_the_number_of_crops() -> None:
    """MiniCPM's code returns a tensor for each crop; what is kept of one picture must be found again of another."""
    whole, crops = torch.rand(4, 6), [torch.rand(4, 6), torch.rand(3, 6), torch.rand(3, 6)]
    one = of_one_picture(BaseModelOutputWithPooling(pooler_output=[whole]))
    several = of_one_picture(BaseModelOutputWithPooling(pooler_output=crops))
    assert tensor_names(one) == tensor_names(several)
    assert (picture_tokens(one), picture_tokens(several)) == (4, 10)
    joined = torch.cat(joined_features([one, several])["pooler_output"])
    assert joined.equal(torch.cat([whole, *crops]))


def test_candidates_that_differ_in_a_batch_are_read_one_pass_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Families that cannot rank a tree of candidates put them into rows, which is checked at loading."""
    monkeypatch.setattr("flamingo_eval.backends.hf.check.rows_difference", lambda engine: 0.4)
    model = loaded("gemma3", tmp_path / "model")
    assert model.engine.own
    assert model.notices == ["this family's cache has rules of its own: its `generate`, and one pass a candidate"]
