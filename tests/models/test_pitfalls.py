"""The ten ways in which the peer's numbers are known to go wrong, and that ours do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file
from torch.testing import assert_close

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Image, Pixels, Prompt, RankSpec
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.engine import reference
from flamingo_eval.errors import PromptError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.convert.openflamingo import convert_openflamingo
from flamingo_eval.models.preprocess import fitted, normalised
from flamingo_eval.models.tokenizer import Encoded
from flamingo_eval.records import Part
from tests.support.small_flamingo import SMALL, picture, save_small

DATA = Path(__file__).parent.parent / "data" / "openflamingo"
A, B, C = (picture(seed) for seed in range(3))


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder, out = DATA / "opt", tmp_path_factory.mktemp("opt") / "model"
    convert_openflamingo(folder / "checkpoint.pt", folder / "lm", folder / "vision_hf", folder / "tokenizer", 1, out)
    return load_flamingo_model(out)


def test_1_ranking_is_the_same_alone_and_in_a_padded_batch(small: Model) -> None:
    """The peer drops the mask after the prompt: padded rows attend to padding; later classes follow earlier ones."""
    prompts = [Prompt(["a"]), Prompt([A, "a much longer prompt:"]), Prompt([B, "x", END_OF_CHUNK, C, "mid:"])]
    names = ["cat", "a red bus", "c"]
    together = small.score(prompts, [names] * 3)
    alone = [small.score([p], [[name]])[0][0] for p in prompts for name in names]
    plain = [s for p in prompts for s in reference.score(small, p, names, RankSpec())]
    assert_close(torch.tensor(together).flatten(), torch.tensor(alone), atol=1e-4, rtol=0)
    assert_close(torch.tensor(together).flatten(), torch.tensor(plain), atol=1e-4, rtol=0)
    assert small.score(prompts[:1], [names[::-1]])[0][::-1] == pytest.approx(together[0], abs=1e-4)


def test_2_a_query_reads_its_own_picture_after_text_only_demonstrations(small: Model) -> None:
    """The peer's zero-shot classification strips the demonstrations' tags but passes their pictures."""
    shots: list[Part] = ["one", END_OF_CHUNK, "two", END_OF_CHUNK]
    one, other = small.logits(Prompt([*shots, A, "is"])), small.logits(Prompt([*shots, B, "is"]))
    n = small.count_tokens(Prompt(shots))
    assert torch.equal(one[:n], other[:n])
    assert (one[n:] - other[n:]).abs().max() > 1e-2


def test_3_tags_without_pictures_are_refused_and_rows_do_not_touch(small: Model) -> None:
    """The peer attends to all pictures at once, lets one row change the others, and crashes without pictures."""
    with pytest.raises(PromptError, match="the tag of a picture"):
        small.generate([Prompt([A, "x<image>y"])])
    spec = DecodeSpec(max_new_tokens=4)
    lone = small.generate([Prompt(["text"])], spec)  # a batch without pictures
    assert small.generate([Prompt(["text"]), Prompt([A, "q:"])], spec)[0] == lone[0]


def test_3_a_generated_image_tag_changes_no_picture(small: Model) -> None:
    """A new token that happens to be `<image>` sees the last picture, like every new token."""
    prompt = Prompt([A, "x"])
    encoded = small.encode(prompt)
    assert encoded.image_of_token[-1] == 1
    tag = small.tokenizer.image_id
    assert tag is not None
    after = Encoded((*encoded.ids, tag), (*encoded.image_of_token, 1), encoded.media)
    with_pictures = reference._read(small, after, reference._visual(small, encoded), None)
    assert with_pictures.isfinite().all()


def test_4_token_ids_stay_whole_in_half_precision(tmp_path: Path) -> None:
    """The peer casts ids to the pictures' type, where 257 becomes 256."""
    half = load_flamingo_model(save_small(tmp_path, SMALL), dtype="bfloat16")
    full = load_flamingo_model(tmp_path)
    prompt, other = Prompt([A, "x", END_OF_CHUNK, "y"]), Prompt([A, "x", "y"])
    assert torch.bfloat16 == half.dtype
    difference = (half.logits(prompt) - full.logits(prompt)).abs().max()
    assert difference < 0.3 * (full.logits(other)[-1] - full.logits(prompt)[-1]).abs().max() + 0.2
    embedded = half.flamingo.decoder.embed(torch.tensor([[257]]), torch.tensor([[0]]))
    assert torch.equal(embedded[0, 0], half.flamingo.decoder.embedding.weight[257])


def test_5_too_long_a_prompt_is_refused_not_cut(small: Model) -> None:
    """The peer cuts at the right, which is the query."""
    prompt = Prompt(["shot " * 20, A, "query"], id="q9")
    with pytest.raises(PromptError, match=r"q9"):
        small.generate([prompt])
    with pytest.raises(PromptError, match=r"q9"):
        small.score([prompt], [["a"]])
    assert small.count_tokens(prompt) == 106


def test_6_nothing_that_was_not_saved_is_random(opt: Model) -> None:
    """The peer leaves head rows random at each load. (Of untied heads: test_models_convert_families.py.)"""
    again = load_flamingo_model(opt.folder)
    prompt = Prompt(["Question: what? Short answer:"])
    assert torch.equal(again.logits(prompt), opt.logits(prompt))
    assert again.sha256 == opt.sha256


@pytest.mark.parametrize(("name", "before", "after"), [("opt", 312, 302), ("neox", 320, 303)])
def test_7_padded_vocabularies_shrink_to_the_checkpoints(tmp_path: Path, name: str, before: int, after: int) -> None:
    folder = DATA / name
    assert json.loads((folder / "lm" / "config.json").read_text())["vocab_size"] == before
    every = {"opt": 1, "neox": 2}[name]
    convert_openflamingo(
        folder / "checkpoint.pt", folder / "lm", folder / "vision_hf", folder / "tokenizer", every, tmp_path / "out"
    )
    model = load_flamingo_model(tmp_path / "out")
    assert model.logits(Prompt(["x"])).shape[1] == after
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["model_state_dict"]
    rows = {"opt": "model.decoder.embed_tokens", "neox": "gpt_neox.embed_in"}[name]
    assert torch.equal(model.flamingo.decoder.embedding.weight, state[f"module.lang_encoder.{rows}.weight"])


def test_8_length_penalty_counts_new_tokens_only(opt: Model) -> None:
    """transformers 4.33 divides by prompt and padding too, and so chooses another answer for the fourth prompt."""
    expected = json.loads((DATA / "opt" / "expected.json").read_text())
    kinds = expected["generated"]
    assert kinds["beam3_lp1"][3] != kinds["beam3_lp1_new_tokens_only"][3]
    pixels = load_file(DATA / "opt" / "inputs.safetensors")
    parts: list[str | Pixels] = []
    for i, text in enumerate(expected["prompts"][3].split("<image>")):
        if i:
            parts.append(Pixels(pixels["pixel_values"][int(pixels["image_index"][3, i - 1])]))
        parts.append(text)
    spec = DecodeSpec(beams=3, max_new_tokens=12, length_penalty=1.0)
    ids = kinds["beam3_lp1_new_tokens_only"][3]
    assert reference.generate_ids(opt, Prompt(parts), spec) == ids
    assert opt.generate([Prompt(parts)], spec) == [opt.tokenizer.decode(ids)]


@pytest.mark.slow
def test_9_mpt_1b_normalises_queries_and_keys() -> None:
    """The port in transformers ignores qk_ln. (Equal to MPT's own definition: test_models_convert_mpt.py.)"""
    from flamingo_eval.models.flamingo import Flamingo
    from flamingo_eval.models.presets import preset

    with torch.device("meta"):
        names = Flamingo(preset("openflamingo-3b")).state_dict()
    assert names["decoder.blocks.0.attention.query_norm.weight"].shape == (2048,)
    assert names["decoder.blocks.23.attention.key_norm.weight"].shape == (2048,)


def test_10_resizing_is_pillows(opt: Model) -> None:
    """The tensor-based bicubic of transformers 5 is off by a grey level, 0.015 after normalisation."""
    expected = load_file(DATA / "opt" / "inputs.safetensors")["pixel_values"]
    for i in range(6):
        assert_close(opt.pixels(Image(DATA / "opt" / "images" / f"{i}.png"))[0], expected[i], atol=1e-6, rtol=0)
    noise = torch.randint(0, 256, (97, 61, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    config = PreprocessConfig(size=32, fit="crop", mean=(0.0,) * 3, std=(1.0,) * 3)
    ours = normalised(fitted(PillowImage.fromarray(noise.numpy()), config), config)
    shorter = noise.permute(2, 0, 1)[None].float()
    tensor = torch.nn.functional.interpolate(shorter, (50, 32), mode="bicubic", antialias=True).round().clamp(0, 255)
    off = (ours * 255 - tensor[0, :, 9:41]).abs()
    assert 0 < off.max() <= 2  # near, but not the same: such pixels would not pass the comparison above
