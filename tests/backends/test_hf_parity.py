"""`load_model("hf:FOLDER")` against transformers: its processor, `generate` and forward, one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from PIL import Image as PillowImage

from flamingo_eval import DecodeSpec, Image, Prompt, RankSpec, Turn, load_model
from flamingo_eval.backends.hf.embedding import HFEncoder
from flamingo_eval.backends.hf.model import HFModel
from flamingo_eval.errors import PromptError
from flamingo_eval.records import Part
from tests.support.more_tiny_vlm import MORE_FAMILIES
from tests.support.slow import first_and_slow
from tests.support.tiny_vlm import FAMILIES, save_tiny

ANSWERS = ("a red kite", "two boats", "snow")
CANDIDATES = (" snow", " a red kite", " two boats on a lake")
GREEDY = DecodeSpec(beams=1, max_new_tokens=8)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A tiny model of one family, and the pictures to ask it about."""

    family: str
    model: HFModel
    pictures: tuple[Image, ...]

    @property
    def processor(self) -> Any:
        return self.model.shape.processor

    def prompt(self, shots: int, chat: bool) -> Prompt:
        question = "Question: What is shown? Answer:"
        parts: list[Part] = []
        turns: list[Turn] = []
        for picture, answer in zip(self.pictures[:shots], ANSWERS, strict=False):
            parts += [picture, f"{question} {answer}\n"]
            turns += [Turn("user", [picture, question]), Turn("assistant", answer)]
        last = self.pictures[shots]
        return Prompt([*turns, Turn("user", [last, question])] if chat else [*parts, last, question])

    def inputs(self, prompt: Prompt) -> Any:
        """What the processor itself makes of a prompt."""
        text = self.model.shape.reader.text(prompt)
        images = [PillowImage.open(m.path).convert("RGB") for m in prompt.media if isinstance(m, Image)]
        call = self.model.shape.reader.call
        out = self.processor(
            text=[text], images=[images], add_special_tokens=not prompt.turns, return_tensors="pt", **call
        )
        out.pop("labels", None)
        return out

    @torch.inference_mode()
    def log_likelihood(self, prompt: Prompt, candidate: str) -> float:
        """From one forward pass over prompt and candidate, nothing kept."""
        inputs = dict(self.inputs(prompt))
        ids = torch.tensor([self.processor.tokenizer(candidate, add_special_tokens=False)["input_ids"]])
        n = inputs["input_ids"].shape[1]
        zeros = torch.zeros_like(ids)
        for name in ("mm_token_type_ids", "token_type_ids"):
            if name in inputs:
                own = zeros + 1 if self.family == "paligemma" else zeros  # there 0 is seen from both sides
                inputs[name] = torch.cat([inputs[name], own], dim=1)
        if "cross_attention_mask" in inputs:
            sees = inputs["cross_attention_mask"]
            inputs["cross_attention_mask"] = torch.cat([sees, sees[:, -1:].expand(-1, ids.shape[1], -1, -1)], dim=1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], zeros + 1], dim=1)
        logits = self.model.network.model(**inputs).logits[0, n - 1 : -1]
        return float(logits.log_softmax(-1).gather(1, ids[0][:, None]).double().sum())

    @torch.inference_mode()
    def generated(self, prompt: Prompt, **options: Any) -> str:
        inputs = self.inputs(prompt)
        out = self.model.network.model.generate(**inputs, do_sample=False, **options)
        text: str = self.processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text


@pytest.fixture(scope="module", params=first_and_slow(sorted({**FAMILIES, **MORE_FAMILIES})))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = save_tiny(request.param, tmp_path_factory.mktemp(request.param), MORE_FAMILIES.get(request.param))
    pictures = []
    for i, size in enumerate(((32, 32), (48, 32), (32, 40))):
        picture = PillowImage.effect_mandelbrot(size, (-2 + i / 3, -1.5, 1, 1.5), 20 + i).convert("RGB")
        picture.save(folder / f"{i}.png")
        pictures.append(Image(folder / f"{i}.png"))
    model = load_model(f"hf:{folder}")
    assert isinstance(model, HFModel)
    return Loaded(request.param, model, tuple(pictures))


STYLES = pytest.mark.parametrize("chat", [True, False], ids=["chat", "interleaved"])


def prompts(loaded: Loaded, chat: bool) -> list[Prompt]:
    return [loaded.prompt(shots, chat) for shots in (0, 1, 2)]


@pytest.mark.slow
@STYLES
def test_ids_are_those_of_the_models_own_processor(loaded: Loaded, chat: bool) -> None:
    for prompt in prompts(loaded, chat):
        assert list(loaded.model.encode(prompt)) == loaded.inputs(prompt)["input_ids"][0].tolist()
        assert loaded.model.shape.count_tokens(prompt) == len(loaded.model.encode(prompt).ids)


@pytest.mark.slow
@STYLES
def test_greedy_text_in_a_batch_is_that_of_generate_one_by_one(loaded: Loaded, chat: bool) -> None:
    queries = prompts(loaded, chat)
    expected = [loaded.generated(p, max_new_tokens=GREEDY.max_new_tokens) for p in queries]
    assert loaded.model.generate(queries, GREEDY) == expected
    assert loaded.model.generate(queries[1:], GREEDY) == expected[1:]


@pytest.mark.slow
@STYLES
def test_scores_are_those_of_one_forward_pass_a_candidate(loaded: Loaded, chat: bool) -> None:
    queries = prompts(loaded, chat)
    scores = loaded.model.score(queries, [CANDIDATES] * len(queries))
    for prompt, row in zip(queries, scores, strict=True):
        expected = [loaded.log_likelihood(prompt, candidate) for candidate in CANDIDATES]
        assert row == pytest.approx(expected, abs=2e-4)


def test_the_mean_is_the_sum_over_the_candidates_tokens(loaded: Loaded) -> None:
    prompt = loaded.prompt(1, chat=True)
    sums = loaded.model.score([prompt], [CANDIDATES])[0]
    means = loaded.model.score([prompt], [CANDIDATES], RankSpec(normalise="mean"))[0]
    tokens = [loaded.model.shape.count_continuation(c) for c in CANDIDATES]
    assert means == pytest.approx([s / n for s, n in zip(sums, tokens, strict=True)])
    best, score = loaded.model.best([prompt], [CANDIDATES])[0]
    assert best == max(range(3), key=sums.__getitem__)
    assert score == pytest.approx(max(sums))


def test_candidates_from_copies_of_the_cache_are_those_of_the_tree(loaded: Loaded) -> None:
    prompt = loaded.prompt(2, chat=False)
    tree = loaded.model.score([prompt], [CANDIDATES])[0]
    engine = loaded.model.engine
    before = engine.tree
    try:
        engine.tree = False
        assert loaded.model.score([prompt], [CANDIDATES])[0] == pytest.approx(tree, abs=1e-4)
    finally:
        engine.tree = before


def test_the_models_own_code_alone_gives_the_same_answers(loaded: Loaded) -> None:
    """The last resort, for families whose caches have rules of their own."""
    if loaded.family == "paligemma":
        pytest.skip("generated text has token types of its own there")
    prompt = loaded.prompt(2, chat=True)
    scores, texts = loaded.model.score([prompt], [CANDIDATES])[0], loaded.model.generate([prompt], GREEDY)
    engine = loaded.model.engine
    before = engine.fast, engine.own
    try:
        engine.fast, engine.own = False, True
        assert loaded.model.score([prompt], [CANDIDATES])[0] == pytest.approx(scores, abs=2e-4)
        assert loaded.model.generate([prompt], GREEDY) == texts
    finally:
        engine.fast, engine.own = before


def test_out_of_memory_halves_the_batch(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, network = loaded.model.engine, loaded.model.network
    if not engine.fast:
        pytest.skip("this family reads one prompt at a time")
    asked = [loaded.prompt(1, chat=True)] * 3
    expected, before = loaded.model.generate(asked, GREEDY), engine.stats["memory_halvings"]
    original, rows = network.prefill, engine.limits.rows

    def narrow(read: Sequence[Any], *args: Any, **options: Any) -> Any:
        if len(read) > 1:
            raise torch.OutOfMemoryError
        return original(read, *args, **options)

    monkeypatch.setattr(network, "prefill", narrow)
    try:
        assert loaded.model.generate(asked, GREEDY) == expected
        assert engine.stats["memory_halvings"] > before
    finally:
        engine.limits.rows = rows


def test_other_pictures_give_other_scores(loaded: Loaded) -> None:
    """Pictures reach the model, each in its own place."""
    prompt = loaded.prompt(2, chat=True)
    swapped = Loaded(loaded.family, loaded.model, loaded.pictures[::-1]).prompt(2, chat=True)
    rows = loaded.model.score([prompt, swapped], [CANDIDATES] * 2)
    assert rows[0] != pytest.approx(rows[1], abs=1e-3)


def test_every_family_gives_features_of_pictures_for_rices(loaded: Loaded) -> None:
    vectors = HFEncoder(loaded.model).embed_media([loaded.pictures[0], loaded.pictures[1], loaded.pictures[0]])
    assert (vectors**2).sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-4)
    similar = vectors @ vectors[0]
    assert similar[2] == pytest.approx(1, abs=1e-4)
    assert similar[1] < 1 - 1e-5


@pytest.mark.slow
def test_each_picture_is_encoded_once(loaded: Loaded) -> None:
    if not loaded.model.engine.fast:
        pytest.skip("this family keeps no features")
    loaded.model.generate(prompts(loaded, chat=True), GREEDY)
    before = dict(loaded.model.engine.stats)
    loaded.model.generate(prompts(loaded, chat=False), GREEDY)
    after = loaded.model.engine.stats
    assert after["pictures_encoded"] == before["pictures_encoded"]


def test_beams_are_those_of_generate(loaded: Loaded) -> None:
    if loaded.family == "glm4v":
        pytest.skip("the beam search of transformers counts other log-probabilities for it than its forward pass")
    prompt = loaded.prompt(1, chat=True)
    expected = loaded.generated(prompt, max_new_tokens=5, num_beams=3, length_penalty=0.0, early_stopping=False)
    assert loaded.model.generate([prompt], DecodeSpec(beams=3, max_new_tokens=5, length_penalty=0.0)) == [expected]


@pytest.mark.parametrize("beams", [1, 2])
def test_an_answer_ends_before_the_first_stop_string(loaded: Loaded, beams: int) -> None:
    queries = [loaded.prompt(1, chat=True), loaded.prompt(0, chat=True)]
    spec = DecodeSpec(beams=beams, max_new_tokens=6)
    texts = loaded.model.generate(queries, spec)
    stop = texts[0][2:3]
    expected = [text.partition(stop)[0] if stop in text else text for text in texts]
    assert loaded.model.generate(queries, replace(spec, stop=(stop,))) == expected


def test_text_alone_is_answered(loaded: Loaded) -> None:
    prompt = Prompt([Turn("user", "What is snow?")])
    if loaded.family == "paligemma":
        with pytest.raises(PromptError, match="rejects a prompt with no picture"):
            loaded.model.encode(prompt)
        return
    inputs = loaded.processor.tokenizer(loaded.model.shape.reader.text(prompt), add_special_tokens=False)
    assert list(loaded.model.encode(prompt)) == inputs["input_ids"]
    scores: Sequence[float] = loaded.model.score([prompt], [CANDIDATES])[0]
    assert len(scores) == len(CANDIDATES)


@pytest.mark.slow
def test_fixed_demonstrations_are_read_once(loaded: Loaded) -> None:
    """What follows a shared beginning is answered as if the whole prompt had been read."""
    if not loaded.model.engine.prefiller.shares_prefixes:
        pytest.skip("this family's beginning is not kept")
    queries = [loaded.prompt(2, chat=True), Prompt([*loaded.prompt(2, chat=True).turns[:-1], *other_question(loaded)])]
    expected = loaded.model.score(queries, [CANDIDATES] * 2), loaded.model.generate(queries, GREEDY)
    before = loaded.model.engine.stats["heads"]
    fixed = [replace(p, common_prefix=True) for p in queries]
    scores = loaded.model.score(fixed, [CANDIDATES] * 2)
    assert loaded.model.engine.stats["heads"] == before + 1
    for row, right in zip(scores, expected[0], strict=True):
        assert row == pytest.approx(right, abs=1e-4)
    assert loaded.model.generate(fixed, GREEDY) == expected[1]
    beams = DecodeSpec(beams=2, max_new_tokens=4)
    assert loaded.model.generate(fixed, beams) == loaded.model.generate(queries, beams)
    assert loaded.model.engine.stats["heads"] == before + 1


def test_prompts_behind_a_prefix_are_packed_where_a_tree_of_candidates_is(loaded: Loaded) -> None:
    """The others continue a copy of the prefix's cache, or read every prompt in full."""
    engine = loaded.model.engine
    assert engine.prefiller.packs == (engine.tree and engine.prefiller.shares_prefixes)


def test_long_prompts_are_read_in_pieces_as_if_read_whole(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    prefiller = loaded.model.engine.prefiller
    if not prefiller.in_pieces:
        pytest.skip("this family reads prompts whole")
    asked = prompts(loaded, chat=True)
    expected = loaded.model.score(asked, [CANDIDATES] * 3), loaded.model.generate(asked, GREEDY)
    lengths = [loaded.model.count_tokens(p) for p in asked]
    monkeypatch.setattr("flamingo_eval.backends.hf.prefilling.SHORTEST", min(lengths))
    monkeypatch.setattr("flamingo_eval.backends.hf.prefilling.PIECE", min(lengths) // 4)
    for row, wanted in zip(loaded.model.score(asked, [CANDIDATES] * 3), expected[0], strict=True):
        assert row == pytest.approx(wanted, abs=1e-4)
    assert loaded.model.generate(asked, GREEDY) == expected[1]


def other_question(loaded: Loaded) -> list[Turn]:
    return [Turn("user", [loaded.pictures[0], "And how many of them are there, if any?"])]
