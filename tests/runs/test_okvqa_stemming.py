"""OK-VQA's references are stemmed; a protocol that stems the predictions too does so in every run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.errors import MissingDependency
from flamingo_eval.metrics import wordnet
from flamingo_eval.prompting.okvqa_stem import require_stemming
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_question, load_questions
from flamingo_eval.runs.runner import run


def _run(engine: Any, protocol: str, out: Path) -> dict[str, Any]:
    """The run.json of OK-VQA's sample under a protocol, with the first line of its outputs."""
    (planned,) = plan_runs([load_question("okvqa", protocol)], Choices(limit=2, shots=(0,)))
    folder = run(planned.spec(ModelIdentity("m", "0", "cpu", "float32")), planned.data, engine, out).folder
    with folder.outputs.open(encoding="utf-8") as lines:
        return {"run": json.loads(folder.run.read_text()), "output": json.loads(next(lines))}


@pytest.mark.slow
@pytest.mark.wups
def test_openflamingo_stems_predictions_of_okvqa_and_says_so(saying_engine: Any, tmp_path: Path) -> None:
    try:
        require_stemming()
    except MissingDependency as missing:
        pytest.skip(str(missing))
    engine = saying_engine(lambda prompt: " racing boats, maybe")
    stemmed, plain = (_run(engine, protocol, tmp_path) for protocol in ("openflamingo", "flamingo"))
    assert stemmed["output"]["raw"] == plain["output"]["raw"] == " racing boats, maybe"
    assert stemmed["output"]["prediction"] == "race boat"
    assert plain["output"]["prediction"] == "racing boats, maybe"
    assert stemmed["run"]["spec"]["prompt"]["clean"]["stem_okvqa"] is True
    assert plain["run"]["spec"]["prompt"]["clean"]["stem_okvqa"] is False


def test_a_missing_stemmer_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("nltk")
    monkeypatch.setattr(wordnet, "_nltk_paths", lambda: [str(tmp_path)])
    wordnet.require_nltk_data.cache_clear()
    try:
        with pytest.raises(MissingDependency, match="NLTK data"):
            load_questions(["okvqa"], "openflamingo")
        questions, _ = load_questions(["okvqa"], "flamingo")
    finally:
        wordnet.require_nltk_data.cache_clear()
    assert [q.prompt.name for q in questions] == ["qa"]
