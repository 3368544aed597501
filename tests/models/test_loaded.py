from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Prompt, RankSpec
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.engine import reference
from flamingo_eval.errors import CheckpointError, MediaError, ModelError, PromptError, UsageError
from flamingo_eval.records import Pixels
from tests.support.small_flamingo import SMALL, picture, save_small, small_model


def shot_prompt(pictures: list[Pixels]) -> Prompt:
    return Prompt([pictures[0], "A: a", END_OF_CHUNK, pictures[1], "A:"], id="q1")


def test_logits_have_a_row_for_every_token(small: Model, pictures: list[Pixels]) -> None:
    prompt = shot_prompt(pictures)
    logits = small.logits(prompt)
    assert logits.dtype == torch.float32
    assert logits.shape == (small.count_tokens(prompt), 258)
    assert logits.isfinite().all()


def test_a_text_only_prompt_works(small: Model) -> None:
    assert small.logits(Prompt(["abc"])).isfinite().all()


def test_pictures_matter_in_their_order(small: Model, pictures: list[Pixels]) -> None:
    a, b = pictures[:2]
    one, other = small.logits(Prompt([a, "x", b, "y"])), small.logits(Prompt([b, "x", a, "y"]))
    assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["relative", "rotary", "alibi", "learned"])
def test_greedy_equals_argmax_without_a_cache(tmp_path: Path, positions: str, pictures: list[Pixels]) -> None:
    model = small_model(tmp_path, positions=positions, rotary_dim=4, short_conv=3)
    prompt = shot_prompt(pictures)
    ids: list[int] = []
    encoded = model.encode(prompt)
    visual = reference._visual(model, encoded)
    for _ in range(6):
        all_ids = encoded.ids + tuple(ids)
        sees = encoded.image_of_token + (2,) * len(ids)
        whole = dataclasses.replace(encoded, ids=all_ids, image_of_token=sees)
        ids.append(int(reference._read(model, whole, visual, None)[0, -1].argmax()))
        if ids[-1] in model.tokenizer.stop_ids:
            break
    assert reference.generate_ids(model, prompt, DecodeSpec(beams=1, max_new_tokens=6)) == ids


def test_scores_are_sums_or_means_of_log_probabilities(small: Model, pictures: list[Pixels]) -> None:
    prompt = shot_prompt(pictures)
    ids = small.tokenizer.encode_text("ab")
    rows = small.logits(Prompt([*prompt.parts, "ab"]))[-3:].log_softmax(-1)
    total = float(rows[0, ids[0]] + rows[1, ids[1]])
    assert small.score([prompt], [["ab"]])[0][0] == pytest.approx(total, abs=1e-5)
    assert small.score([prompt], [["ab"]], RankSpec(normalise="mean"))[0][0] == pytest.approx(total / 2, abs=1e-5)
    end = float(rows[2, small.tokenizer.stop_ids[0]])
    assert small.score([prompt], [["ab"]], RankSpec(end_of_chunk=True))[0][0] == pytest.approx(total + end, abs=1e-5)


def test_beams_find_at_least_what_greedy_finds(small: Model, pictures: list[Pixels]) -> None:
    for seed in range(5):
        prompt = Prompt([picture(seed), "A:"])
        greedy = reference.generate_ids(small, prompt, DecodeSpec(beams=1, max_new_tokens=4))
        beam = reference.generate_ids(small, prompt, DecodeSpec(beams=300, max_new_tokens=4))
        assert likelihood(small, prompt, beam) >= likelihood(small, prompt, greedy) - 1e-5


def likelihood(model: Model, prompt: Prompt, ids: list[int]) -> float:
    encoded = model.encode(prompt)
    whole = dataclasses.replace(
        encoded, ids=encoded.ids + tuple(ids), image_of_token=encoded.image_of_token + (1,) * len(ids)
    )
    rows = reference._read(model, whole, reference._visual(model, encoded), None)[0, len(encoded.ids) - 1 : -1]
    return float(rows.log_softmax(-1)[range(len(ids)), ids].sum())


def test_batch_of_prompts_equals_each_alone(small: Model, pictures: list[Pixels]) -> None:
    prompts = [shot_prompt(pictures), Prompt(["text"]), Prompt([pictures[2], "B:"])]
    assert small.generate(prompts) == [small.generate([prompt])[0] for prompt in prompts]


def test_too_long_a_prompt_says_by_how_much(small: Model, pictures: list[Pixels]) -> None:
    with pytest.raises(PromptError, match=r"q7: 71 tokens with the answer, small reads 64"):
        small.generate([Prompt([pictures[0], "x" * 60], id="q7")], DecodeSpec(max_new_tokens=10))


def test_pixels_of_a_wrong_shape_are_named(small: Model) -> None:
    with pytest.raises(MediaError, match=r"\[3, 8, 8\].*\[3, 16, 16\]"):
        small.logits(Prompt([Pixels(torch.zeros(3, 8, 8)), "x"]))


def test_an_empty_candidate_is_an_error(small: Model) -> None:
    with pytest.raises(PromptError, match="empty candidate"):
        small.score([Prompt(["x"])], [["a", ""]])


def test_describes_itself(small: Model) -> None:
    assert (small.name, small.end_of_chunk, small.context_length, small.begin) == ("small", "<EOC>", 64, "")
    assert len(small.sha256) == 64


def test_sha256_changes_with_the_weights(tmp_path: Path) -> None:
    one, other = (Model.load(save_small(tmp_path / str(seed), SMALL, seed)) for seed in (1, 2))
    assert one.sha256 != other.sha256


def test_bfloat16_keeps_token_ids_whole(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, decoder=dataclasses.replace(SMALL.decoder, vocabulary=258))
    model = load_flamingo_model(save_small(tmp_path, config), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    # 257 is no bfloat16 number; ids cast to the pixels' type would become 256
    assert model.encode(Prompt(["a", END_OF_CHUNK])).ids[-1] == 257
    assert model.logits(Prompt([picture(0), "a", END_OF_CHUNK])).dtype == torch.float32


def test_unknown_names_devices_and_types(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is an architecture preset without weights"):
        load_flamingo_model("flamingo-3b")
    with pytest.raises(CheckpointError, match="no such folder"):
        load_flamingo_model(tmp_path / "absent")
    folder = save_small(tmp_path / "small")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        load_flamingo_model(folder, dtype="int8")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        load_flamingo_model(folder, device="gpu")


@pytest.mark.parametrize("beams", [1, 3])
def test_tokens_that_cannot_be_generated_end_no_answer(tmp_path: Path, beams: int, pictures: list[Pixels]) -> None:
    """Of the end of chunk's own head row too, where it was never saved: answers end by length."""
    model = small_model(tmp_path, tied_head=False, head_rows=256)
    prompts = [shot_prompt(pictures), Prompt(["text"])]
    spec = DecodeSpec(beams=beams, max_new_tokens=5)
    ids = [reference.generate_ids(model, prompt, spec) for prompt in prompts]
    assert all(len(row) == 5 and max(row) < 256 for row in ids)
    assert model.generate(prompts, spec) == [model.tokenizer.decode(row) for row in ids]
    with pytest.raises(ModelError, match="all candidates score minus infinity"):
        model.score(prompts, [["a"], ["b"]], RankSpec(end_of_chunk=True))
