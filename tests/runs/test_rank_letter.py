"""`--rank letter`: a protocol of its own, an answer without a letter is wrong, and tasks that cannot be asked so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flamingo_eval import evaluate
from flamingo_eval.cli import app
from flamingo_eval.config.specs import DecodeSpec, RankSpec, Wanted
from flamingo_eval.metrics.roc_auc import roc_auc
from flamingo_eval.metrics.top_k import top1
from flamingo_eval.records import Answer, Best, Example, Prediction, Prompt
from flamingo_eval.report.cells import notes_of
from flamingo_eval.report.tables import table_of


class Writes:
    """Writes the same text to every prompt, and keeps the prompts."""

    default_protocol = "chat"

    def __init__(self, text: str) -> None:
        self.text = text
        self.prompts: list[Prompt] = []

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        for i, prompt in enumerate(prompts):
            self.prompts.append(prompt)
            yield i, Answer(1, text=self.text)

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        for i, (_, names) in enumerate(zip(prompts, candidates, strict=False)):
            yield i, Answer(1, scores=tuple(-float(k) for k in range(len(names))))


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=True)


@pytest.mark.parametrize("protocol", ["chat", "flamingo"])
def test_the_letter_is_read_and_the_choice_scored(tmp_path: Path, protocol: str) -> None:
    model = Writes(" B.")
    result = evaluate(model, "star", shots=2, limit=12, rank="letter", protocol=protocol, out=tmp_path)
    (run,) = result.runs
    assert run.spec.protocol.name == f"{protocol}_letter"
    lines = [json.loads(line) for line in run.folder.outputs.read_text().splitlines()]
    assert {(line["raw"], line["prediction"], line["best"]["candidate"]) for line in lines} == {(" B.", "B", 1)}
    share = sum(line["score"] for line in lines) / len(lines)
    assert {s.metric: s.value for s in run.scores}["top1"] == pytest.approx(share)
    text = "".join(p for p in model.prompts[0].parts if isinstance(p, str))
    assert len(re.findall(r"^A\. ", text, re.MULTILINE)) == 3
    answers = [t.parts[0] for t in model.prompts[0].turns if t.role == "assistant"]
    assert all(a in ("A", "B", "C", "D") for a in answers)
    assert len(answers) == (2 if protocol == "chat" else 0)


def test_answers_without_a_letter_are_counted_as_wrong_and_said(tmp_path: Path) -> None:
    result = evaluate(Writes("a dog"), ("star", "hateful_memes"), shots=0, limit=8, rank="letter", protocol="chat",
                      out=tmp_path)  # fmt: skip
    star, memes = result.runs
    assert [s.value for s in star.scores] == [0.0, 0.0]
    assert [s.value for s in memes.scores] == [0.0, 0.0]
    notes = notes_of(table_of([star.folder, memes.folder]))
    assert sum("8 of 8 answers contain no choice: counted as wrong" in note for note in notes) == 2


def test_letters_and_scores_never_share_a_row(tmp_path: Path) -> None:
    ranks: tuple[Wanted, ...] = ("all", "letter")
    evaluations = [
        evaluate(Writes("A"), "star", shots=0, limit=4, rank=rank, protocol="chat", out=tmp_path) for rank in ranks
    ]
    runs = [run for evaluation in evaluations for run in evaluation.runs]
    table = table_of([run.folder for run in runs])
    assert sorted({row.protocol for row in table.rows}) == ["chat", "chat_letter"]
    assert all(len(row.cells) == 1 for row in table.rows)


def test_the_area_of_hard_answers_is_the_mean_of_sensitivity_and_specificity() -> None:
    truth = (1, 1, 1, 0, 0)
    choices = (1, 1, None, 0, None)  # 2 of 3 and 1 of 2: those without a letter are wrong
    examples = [Example(str(i), (), str(i), target=t) for i, t in enumerate(truth)]
    predictions = [
        Prediction(str(i), "" if s is None else "AB"[s], best=None if s is None else Best(s, 1.0))
        for i, s in enumerate(choices)
    ]
    result = roc_auc(predictions, examples)
    assert result.value == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert result.breakdown["accuracy"] == pytest.approx(60)
    assert top1(predictions, examples).value == pytest.approx(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("visdial",), "visdial: ndcg cannot be computed from a letter"),
        (("imagenet",), "imagenet@sample: 32 candidates, but only 26 letters"),
        (("star", "--ablation", "labels-shuffled"), "the answers it shows are not among the choices"),
        (("hateful_memes", "--ablation", "labels-replaced"), "the answers it shows are not among the choices"),
        (("star", "--protocol", "idefics"), "no prompt with lettered choices in protocol idefics"),
        (("star", "--permutations", "2"), "not averaged over 2 orders"),
        (("vqav2",), "generates text"),
    ],
)
def test_what_cannot_be_asked_so_is_named_before_anything_is_loaded(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = command("run", *words, "--rank", "letter", "--out", tmp_path)
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_a_protocol_of_letters_needs_no_option_and_takes_no_other(tmp_path: Path) -> None:
    result = command("run", "star", "--protocol", "chat_letter", "--rank", "all", "--out", tmp_path)
    assert "chat_letter is made for --rank letter" in str(result.exception)
    prompt = command("show", "star", "--protocol", "flamingo_letter", "--shots", "1")
    assert re.search(r"A\. .*\nB\. .*\nC\. .*\nD\. .*\nAnswer: [A-D]<EOC>", prompt.stdout)


def test_swapped_labels_show_the_letters_of_the_swapped_answers(tmp_path: Path) -> None:
    model = Writes("A")
    for ablation in ("", "labels-shuffled"):
        evaluate(model, "hateful_memes", shots=4, limit=6, rank="letter", protocol="chat", out=tmp_path,
                 ablation=ablation)  # fmt: skip
    half = len(model.prompts) // 2
    plain, swapped = ([[t.parts[0] for t in p.turns if t.role == "assistant"] for p in some] for some in
                      (model.prompts[:half], model.prompts[half:]))  # fmt: skip
    assert [sorted(map(str, row)) for row in plain] == [sorted(map(str, row)) for row in swapped]
    assert plain != swapped
