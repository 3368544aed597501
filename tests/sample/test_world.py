from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import pytest

from flamingo_eval.sample.world import wording
from flamingo_eval.sample.world.render import looks_of, render, render_clip
from flamingo_eval.sample.world.scenes import BACKGROUNDS, Scene, concepts, group_scene, held_out, pair_scene, seen


def test_ten_to_twenty_percent_of_the_concepts_are_held_out() -> None:
    assert 0.10 <= len(held_out()) / len(concepts()) <= 0.20
    assert len(seen()) + len(held_out()) == len(concepts())


def test_names_are_unique_single_words() -> None:
    names = [c.name for c in concepts()]
    assert len(set(names)) == len(names)
    assert all(name.isalpha() for name in names)


def test_held_out_words_are_in_no_training_text() -> None:
    words = set(wording.vocabulary())
    assert not words & {concepts()[c].name for c in held_out()}


def test_a_scene_is_drawn_the_same_every_time() -> None:
    scene = group_scene("x", 3)
    assert scene == group_scene("x", 3)
    assert render(scene).tobytes() == render(scene).tobytes()
    assert render(scene).tobytes() != render(group_scene("y", 3)).tobytes()


def test_scene_records_of_this_version_are_pinned() -> None:
    scenes = [group_scene(f"pin{i}", i) for i in range(20)] + [pair_scene("pin", 1, 2)]
    assert hashlib.sha256(repr(scenes).encode()).hexdigest()[:16] == "0934e98f32dbf056"


def test_pictures_of_this_version_are_pinned() -> None:
    """By their mean grey level: single pixels may differ by one between processors."""
    scenes = [group_scene(f"pin{i}", 9 * i) for i in range(6)]
    levels = [float(np.asarray(render(scene), float).mean()) for scene in scenes]
    assert levels == pytest.approx([118.19, 158.74, 139.44, 105.63, 131.87, 114.84], abs=0.3)


@pytest.mark.parametrize("background", range(len(BACKGROUNDS)))
def test_the_background_has_its_colour(background: int) -> None:
    pixels = np.asarray(render(Scene("c", (0,), 1, background)), dtype=float)
    border = np.concatenate([pixels[:6].reshape(-1, 3), pixels[-6:].reshape(-1, 3)])
    distances = [np.abs(np.median(border, axis=0) - colour).sum() for colour in BACKGROUNDS]
    assert int(np.argmin(distances)) == background


def test_a_clip_moves_and_a_sign_is_drawn() -> None:
    first, *_, last = render_clip(Scene("m", (3,), 1, 4, motion="right"), 4)
    assert first.tobytes() != last.tobytes()
    plain, signed = (np.asarray(render(Scene("s", (3,), 1, 1, sign=text)), int) for text in ("", "STOP"))
    assert (signed[100:] > 240).all(axis=2).sum() > (plain[100:] > 240).all(axis=2).sum() + 200


@pytest.mark.slow
def test_looks_are_other_objects_and_the_first_is_the_artwork_itself() -> None:
    some = [o for o in seen() if len(looks_of(o)) > 2][:5]
    for concept in some:
        drawn = [render(group_scene("l", concept, look=look)).tobytes() for look in (0, *looks_of(concept))]
        assert len(set(drawn)) == len(drawn)
        assert drawn[0] == render(group_scene("l", concept)).tobytes()
    assert 900 < sum(len(looks_of(o)) for o in seen()) < 1100


def test_conventions_bind_places_to_backgrounds() -> None:
    conventions = wording.Conventions.draw(Random(1))
    assert len(set(conventions.places.values())) == len(BACKGROUNDS)
    scene = group_scene("q", seen()[0], background=2)
    question = wording.ask("where", scene, conventions, Random(0), ())
    assert question is not None
    assert question.answer == conventions.places[2]


def test_left_and_right_follow_the_scene() -> None:
    scene = pair_scene("p", seen()[0], seen()[1])
    names = [concepts()[c].name for c in scene.objects]
    questions = [wording.ask(t, scene, wording.Conventions(), Random(0), ()) for t in ("left", "right")]
    assert [a.answer for a in questions if a] == names
    assert wording.ask("count", scene, wording.Conventions(), Random(0), ()) is None
