"""What a machine cannot score is one line in `run all`, and an error where the task is asked for by name."""

from __future__ import annotations

import pytest

from flamingo_eval.errors import MissingDependency
from flamingo_eval.metrics import wordnet
from flamingo_eval.runs.questions import load_questions


@pytest.fixture(autouse=True)
def no_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        folders = "\n".join(f"  searched /folder/{i}" for i in range(9))
        raise MissingDependency(f"NLTK data is missing: wordnet.\n{folders}", fix="python -m nltk.downloader wordnet")

    monkeypatch.setattr(wordnet, "require_nltk_data", missing)


@pytest.mark.slow
def test_it_is_one_line_among_all_tasks() -> None:
    questions, notes = load_questions(["all"], "flamingo")
    (note,) = [n for n in notes if n.startswith("nextqa")]
    assert note == "nextqa: answered, not scored: NLTK data is missing: wordnet. `flamingo-eval doctor` shows the fix"
    assert "nextqa" in [q.task.name for q in questions]


def test_a_task_that_is_named_is_an_error_before_anything_is_loaded() -> None:
    with pytest.raises(MissingDependency, match=r"nltk\.downloader wordnet"):
        load_questions(["nextqa"], "flamingo")
