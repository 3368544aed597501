from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_eval.sample.world.scenes import concepts, held_out
from flamingo_eval.training.batches import Collator
from flamingo_eval.training.concept_pools import ScenePool, Thing, thing_of, training_clips, training_pool
from flamingo_eval.training.flamingo_stage import features_of
from flamingo_eval.training.sample_episodes import Chunk, draw_episode, words_for
from flamingo_eval.training.vocabulary import SPECIAL, make_tokenizer


@pytest.fixture(scope="module")
def pool() -> ScenePool:
    return training_pool("test", 8, 64, invented=2)


@pytest.fixture(scope="module")
def clips() -> ScenePool:
    return training_clips("test", 60)


@pytest.fixture(scope="module")
def collate() -> Collator:
    return Collator(make_tokenizer())


@pytest.mark.parametrize("task", ["bind", "bind-colour", "bind-count", "name", "caption", "vqa", "bound"])
def test_episodes_are_full_and_never_name_held_out_objects(pool: ScenePool, task: str) -> None:
    banned = {concepts()[c].name for c in held_out()}
    for seed in range(20):
        episode = draw_episode(Random(seed), pool, {task: 1.0}, 8, 0.5)
        assert 3 <= len(episode) <= 8
        for chunk in episode:
            assert not banned & set(f"{chunk.stem} {chunk.answer} {chunk.words}".replace("?", "").split())


def test_a_name_is_bound_to_one_thing_in_an_episode(pool: ScenePool) -> None:
    invented = 0
    for seed in range(20):
        bound: dict[str, tuple[int, int]] = {}
        for chunk in draw_episode(Random(seed), pool, {"bind": 1.0}, 17, 0.0):
            assert chunk.scene is not None
            thing = thing_of(pool.scenes[chunk.scene])
            assert bound.setdefault(chunk.answer, thing) == thing
            assert words_for(thing) in chunk.words
            invented += thing[1] > 0
        assert 1 <= len(bound) <= 8
        assert len(set(bound.values())) == len(bound)
    assert invented > 20


def test_a_blend_is_of_the_same_two_things_and_shares_throughout_an_episode(pool: ScenePool) -> None:
    blended = 0
    for seed in range(40):
        bound: dict[str, tuple[Thing, float]] = {}
        for chunk in draw_episode(Random(seed), pool, {"bind": 1.0}, 17, 0.0, blends=0.5):
            if chunk.blend is None:
                assert not bound
                continue
            other, share = chunk.blend
            assert chunk.scene is not None
            if (thing_of(pool.scenes[other]), pool.scenes[chunk.scene].background) in pool.groups:
                assert pool.scenes[other].background == pool.scenes[chunk.scene].background
            assert 0.2 <= share <= 0.5
            blend = thing_of(pool.scenes[other]), share
            assert bound.setdefault(chunk.answer, blend) == blend
        blended += bool(bound)
    assert 10 < blended < 30


@pytest.mark.parametrize(("task", "blends"), [("bind", 0.0), ("bind-colour", 1.0), ("caption", 1.0), ("bound", 1.0)])
def test_nothing_is_blended_unasked(pool: ScenePool, task: str, blends: float) -> None:
    episodes = [draw_episode(Random(s), pool, {task: 1.0}, 8, 0.0, blends) for s in range(20)]
    assert all(chunk.blend is None for episode in episodes for chunk in episode)


def test_features_are_blended_as_the_batch_says(collate: Collator) -> None:
    features = torch.randn(6, 1, 4, 8)
    blended = [Chunk(1, "Output:", "dax", blend=(5, 0.25)), Chunk(2, "Output:", "dax")]
    plain = [Chunk(3, "Output:", "toma")]
    features_seen = features_of(collate([blended, plain], 0.0, in_words=False), features)
    assert torch.allclose(features_seen[0, 0], 0.75 * features[1] + 0.25 * features[5])
    assert torch.equal(features_seen[0, 1], features[2])
    assert torch.equal(features_seen[1, 0], features[3])


def test_invented_objects_are_bound_and_never_named(pool: ScenePool) -> None:
    for seed in range(40):
        for task in ("name", "caption", "vqa"):
            for chunk in draw_episode(Random(seed), pool, {task: 1.0}, 5, 0.0):
                assert chunk.scene is None or pool.scenes[chunk.scene].look == 0


def test_what_is_said_of_a_clip_is_what_moves(clips: ScenePool) -> None:
    words: dict[str, None] = {}
    for seed in range(60):
        episode = draw_episode(Random(seed), clips, {"clip": 1.0}, 6, 0.0)
        assert len(episode) == 6
        names: dict[str, str] = {}
        for chunk in episode:
            assert chunk.scene is not None
            scene = clips.scenes[chunk.scene]
            if chunk.stem == "Question: where does it go? Answer:":
                words["question"] = None
                assert chunk.answer == scene.motion
            elif scene.motion in chunk.answer.split():
                words["caption"] = None
            elif chunk.stem == "Output:":
                words["bound"] = None
                assert names.setdefault(scene.motion, chunk.answer) == chunk.answer
    assert set(words) == {"question", "caption", "bound"}


def test_zero_shot_episodes_are_trained_too(pool: ScenePool) -> None:
    episodes = [draw_episode(Random(s), pool, {"caption": 1.0}, 5, 0.0) for s in range(100)]
    bare = [e for e in episodes if e[0].scene is None]
    assert 3 < len(bare) < 30
    assert all(e[1].scene is None and e[2].scene is not None for e in bare)


def test_a_batch_weighs_answers_and_marks_repeats(collate: Collator) -> None:
    episode = [Chunk(None, "Output:", "dax"), Chunk(4, "Output:", "toma"), Chunk(9, "Output:", "toma")]
    batch = collate([episode], other_tokens=0.0, in_words=False)
    tokens = [collate.tokenizer.id_to_token(int(i)) for i in batch.tokens[0][:16]]
    assert tokens[:13] == [
        *("<BOS>", "Output", ":", "Ġdax", "<EOC>"),
        *("<image>", "Output", ":", "Ġtoma", "<EOC>", "<image>", "Output", ":"),
    ]
    assert batch.weights[0][:16].tolist() == [0] * 8 + [1, 1] + [0] * 3 + [1, 1, 0]
    assert batch.image_of_token[0][:15].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert batch.scenes.tolist() == [[4, 9]]
    assert batch.repeats[0].nonzero().flatten().tolist() == [13]
    assert batch.tokens.shape[1] % 32 == 0


def test_batches_read_like_the_harness_prompts(collate: Collator) -> None:
    """What is trained on is, token for token, what the tokenizer makes of the rendered prompt."""
    episode = [Chunk(0, "Question: where is it? Answer:", "harbor"), Chunk(1, "Output:", "a dog")]
    text = "<image>Question: where is it? Answer: harbor<EOC><image>Output: a dog<EOC>"
    ids = collate.tokenizer.encode(text).ids
    assert collate([episode], 0.0, in_words=False).tokens[0][: len(ids)].tolist() == ids


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_any_text_round_trips(text: str) -> None:
    tokenizer = make_tokenizer()
    if any(s in text for s in SPECIAL):
        return
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_worlds_words_are_single_tokens(collate: Collator) -> None:
    for word in ("dog", "harbor", "dax", "crimson", "iii"):
        assert len(collate.ids(f" {word}")) == 1
