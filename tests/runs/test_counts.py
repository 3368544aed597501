from __future__ import annotations

from flamingo_eval.runs.runner import since

BEFORE = {
    "prompts": 10,
    "batch_size": 16,
    "vision_cache": {"hits_memory": 8, "hits_disk": 2, "misses": 10, "damaged": 0, "hit_rate": 0.5},
}
NOW = {
    "prompts": 14,
    "batch_size": 8,
    "vision_cache": {"hits_memory": 9, "hits_disk": 4, "misses": 11, "damaged": 1, "hit_rate": 0.541667},
}


def test_a_run_has_its_own_counts_and_hit_rate() -> None:
    own = {"hits_memory": 1, "hits_disk": 2, "misses": 1, "damaged": 1, "hit_rate": 0.75}
    assert since(BEFORE, NOW) == {"prompts": 4, "batch_size": 8, "vision_cache": own}


def test_the_first_run_has_all() -> None:
    assert since({}, NOW) == {**NOW, "vision_cache": {**NOW["vision_cache"], "hit_rate": 0.541667}}  # type: ignore[dict-item]


def test_nothing_asked_is_no_hit() -> None:
    assert since(NOW, NOW)["vision_cache"]["hit_rate"] == 0.0
