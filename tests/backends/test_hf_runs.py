"""Commands with a model of transformers: a table, a record, resumption to the same file, and errors before any work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flamingo_eval.cli import app
from tests.support.slow import first_and_slow
from tests.support.tiny_vlm import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("qwen2_5_vl", tmp_path_factory.mktemp("saved") / "tiny-qwen")


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=True)


def ran(model: Path, out: Path, *words: str | Path) -> Path:
    """The folder of the one run below `out`."""
    result = command(
        "run", "fastbind", "--limit", "6", "--device", "cpu", "--out", out, "--model", f"hf:{model}", *words
    )
    assert result.exit_code == 0, result.output
    (record,) = out.glob("*/*/*/run.json")
    return record.parent


@pytest.mark.slow
def test_a_run_ends_with_a_table_and_its_record_says_what_the_model_is(model: Path, tmp_path: Path) -> None:
    folder = ran(model, tmp_path, "--shots", "2", "--model-args", "max_pixels=512")
    record = json.loads((folder / "run.json").read_text())
    assert record["spec"]["model"] == "tiny-qwen[max_pixels=512]"
    assert record["spec"]["protocol"]["name"] == "chat"
    assert record["model"]["family"] == "qwen2_5_vl"
    assert record["model"]["args"] == {"max_pixels": 512}
    assert len(record["model"]["chat_template_sha256"]) == 64
    assert record["model"]["features_kept"]
    assert str(model) not in json.dumps(record)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["star", "fastbind"])
def test_an_interrupted_run_is_resumed_to_the_same_file(model: Path, tmp_path: Path, task: str) -> None:
    """Scores do not depend on which queries shared a batch, to the last digit that is written."""
    words = (
        "run",
        task,
        "--shots",
        "2",
        "--limit",
        "9",
        "--device",
        "cpu",
        "--model",
        f"hf:{model}",
        "--out",
        tmp_path,
    )
    assert command(*words).exit_code == 0
    (outputs,) = tmp_path.glob("*/*/*/outputs.jsonl")
    whole = outputs.read_bytes()
    lines = whole.splitlines(keepends=True)
    outputs.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    (outputs.parent / "scores.json").unlink()
    assert command(*words).exit_code == 0
    assert outputs.read_bytes() == whole


@pytest.mark.slow
def test_a_second_run_encodes_no_picture_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    first = json.loads((ran(model, tmp_path / "a", "--shots", "2") / "run.json").read_text())
    second = json.loads((ran(model, tmp_path / "b", "--shots", "2") / "run.json").read_text())
    assert first["engine"]["pictures_encoded"] > 0
    assert second["engine"]["pictures_encoded"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("demos", first_and_slow(["rices", "rices-text"]))
def test_the_models_own_features_choose_demonstrations(model: Path, tmp_path: Path, demos: str) -> None:
    words = ("--shots", "2", "--demos", demos, "--limit", "4", "--device", "cpu", "--out", tmp_path)
    result = command("run", "vqav2", "--model", f"hf:{model}", *words)
    assert result.exit_code == 0, result.output


def test_the_prompt_is_shown_with_the_tokens_that_the_model_reads(model: Path) -> None:
    result = command("show", "vqav2", "--shots", "1", "--model", f"hf:{model}", "--json")
    assert result.exit_code == 0, result.output
    prompt = json.loads(result.stdout)
    assert prompt["prompt"].startswith("[user]\n<image>")
    assert prompt["context"] == 4096
    assert prompt["tokens"] > 100


@pytest.mark.slow
def test_a_dry_run_counts_tokens(model: Path) -> None:
    words = ("--shots", "0,4", "--limit", "8", "--dry-run", "--json")
    result = command("run", "vqav2", "--model", f"hf:{model}", *words)
    assert result.exit_code == 0, result.output
    none, four = json.loads(result.stdout)["runs"]
    assert four["tokens"] > 3 * none["tokens"]


@pytest.mark.slow
def test_prompts_that_are_too_long_are_named_before_weights_are_read(model: Path, tmp_path: Path) -> None:
    words = ("--shots", "4", "--model-args", "context=200", "--out", tmp_path)
    result = command("run", "vqav2", "--model", f"hf:{model}", *words)
    assert result.exit_code == 1
    assert "vqav2@sample, 4 shots" in str(result.exception)
    assert "max_pixels" in str(result.exception)


def test_a_missing_folder_is_said_before_data_are_read(tmp_path: Path) -> None:
    result = command("run", "vqav2", "--data", tmp_path / "nowhere", "--model", f"hf:{tmp_path}/absent")
    assert "no such folder" in str(result.exception)


def test_the_list_of_models_says_what_each_backend_can_do() -> None:
    result = command("list", "models", "--json")
    rows = {row["model"]: row for row in json.loads(result.stdout)}
    assert rows["hf:FOLDER or hf:NAME"]["does"] == "generate and rank"
    assert rows["hf:FOLDER or hf:NAME"]["turns"] == "yes"


@pytest.mark.slow
def test_a_run_is_repeated_with_the_options_of_its_record(model: Path, tmp_path: Path) -> None:
    folder = ran(model, tmp_path, "--shots", "1", "--model-args", "max_pixels=512")
    nameless = command("rerun", folder)
    assert nameless.exit_code != 0
    assert "--model hf:FOLDER" in str(nameless.exception)
    again = command("rerun", folder, "--model", f"hf:{model}")
    assert again.exit_code == 0, again.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ablation", "pictures"),
    [("images-in-words", 1), ("images-all-blank", 3), ("shots-irrelevant", 3), ("labels-permuted", 3)],
)
def test_ablations_of_shots_and_labels_are_runs_like_others(
    model: Path, tmp_path: Path, ablation: str, pictures: int
) -> None:
    words = ("--shots", "2", "--ablation", ablation, "--limit", "2", "--device", "cpu", "--dtype", "float32")
    task = "vl_icl_operator_induction"
    result = command("run", task, *words, "--model", f"hf:{model}", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"{task}@sample ({ablation})" in result.output
    (record,) = tmp_path.glob("*/*/*/run.json")
    ids = [json.loads(line)["id"] for line in (record.parent / "outputs.jsonl").read_text().splitlines()]
    assert len(ids) == 2
    shown = json.loads(command("show", record.parent, "--id", ids[0], "--json").stdout)
    assert len(shown["media"]) == pictures
    assert ({Path(name).name for name in shown["media"]} == {"blank.png"}) == (ablation == "images-all-blank")
    assert bool(re.search(r"\d \? \d", shown["prompt"])) == (ablation == "images-in-words")
    assert (shown["references"] == [result_of(ids[0])]) == (ablation != "labels-permuted")


def result_of(id: str) -> str:
    """The answer to a query of operator induction, `..._3_4_x`."""
    a, b, operator = id.split("_")[-3:]
    return str({"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[operator])
