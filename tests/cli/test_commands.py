"""The command line as a user meets it: help without weight, errors without tracebacks, exit codes."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from flamingo_eval.cli import app, main
from flamingo_eval.cli.report import write_file
from flamingo_eval.errors import RunError
from flamingo_eval.sample import sample_root

COMMANDS = [c.name for c in app.registered_commands if c.name] + ["convert", "convert openflamingo", "convert idefics"]


def flamingo_eval(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in this process: its exit code and what it wrote."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.setattr(sys, "argv", ["flamingo-eval", *map(str, words)])
        patch.chdir(cwd or Path.cwd())
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())


@pytest.mark.slow
def test_help_needs_nothing_heavy() -> None:
    probe = (
        "import sys, flamingo_eval.cli\n"
        "for command in sys.argv[1:]:\n"
        "    sys.argv = ['flamingo-eval', *command.split(), '--help']\n"
        "    try: flamingo_eval.cli.main()\n"
        "    except SystemExit as e: assert not e.code\n"
        "    heavy = {'torch', 'pandas', 'datasets', 'numpy', 'transformers'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{command} --help imports {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", probe, "", *COMMANDS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == 1 + len(COMMANDS)


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "flamingo_eval", "rum"], capture_output=True, text=True, check=False)
    assert (done.returncode, "No such command 'rum'" in done.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "vqav3"], 1, "unknown task 'vqav3'. Did you mean 'vqav2'?"),
        (["run", "./nothing.yaml"], 1, "task file ./nothing.yaml: there is no such file."),
        (["run", "vqav2", "--data", "nowhere"], 1, "--data nowhere: there is no such folder."),
        (
            ["run", "vqav2", "--shots", "4,x"],
            2,
            "invalid value for --shots: '4,x' ('x'). Expected integers, for example 0,4,8.",
        ),
        (
            ["run", "vqav2", "--seeds", "a"],
            2,
            "invalid value for --seeds: 'a'. Expected integers, for example 0,1,2.",
        ),
        (["run", "vqav2", "--model", "tinny"], 1, "Did you mean 'tiny'?"),
        (["run", "--shots", "4"], 2, "the task is missing."),
        (["run", "vqav2", "--demos", "randm"], 2, "Did you mean 'random'?"),
        (["run", "vqav2", "--ablation", "labels"], 2, "unknown ablation 'labels'."),
        (["run", "vqav2", "--protocol", "openflaming"], 1, "Did you mean 'openflamingo'?"),
        (["run", "rareact", "--shots", "4"], 2, "rareact"),
        (["rum"], 2, "No such command 'rum'"),
        (["report", "nowhere"], 1, "nowhere: there is no such folder."),
        (["report", "--format", "markdwn"], 2, "Did you mean 'markdown'?"),
        (["list", "taks"], 2, "Did you mean 'tasks'?"),
        (["score", "vqav2", "--predictions", "x", "--data", "nowhere"], 2, "there is no such folder"),
    ],
)
def test_a_users_mistake_is_a_message(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    done = flamingo_eval(*words, cwd=tmp_path)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.returncode == code


def test_a_bug_goes_to_a_file_with_exit_code_3() -> None:
    probe = (
        "import sys, flamingo_eval.cli as cli\ndef broken(): raise ZeroDivisionError('x')\ncli.app = broken\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "this is a bug: ZeroDivisionError: x" in done.stderr
    log = Path(done.stderr.split("The traceback is in ")[1].split(";")[0])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    report = tmp_path / "report.csv"
    write_file(report, b"the old one")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"--out .*report\.csv: cannot be written: No space left"):
        write_file(report, b"the new one")
    assert report.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [report]


def test_a_cache_folder_that_cannot_be_written_is_the_users_to_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", "/dev/null")
    with pytest.raises(RunError, match=r"/dev/null/sample/[\d.]+: the cache cannot be written: Not a directory"):
        sample_root("vqav2")


def test_version() -> None:
    assert flamingo_eval("--version").stdout.startswith("flamingo-eval 0.")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["tasks", "prompts", "metrics", "ablations", "models"])
def test_lists_are_json_when_asked(what: str) -> None:
    rows = json.loads(flamingo_eval("list", what, "--json").stdout)
    assert rows
    assert len({json.dumps(r) for r in rows}) == len(rows)


def test_list_tasks_says_where_the_data_is() -> None:
    rows = json.loads(flamingo_eval("list", "tasks", "--json").stdout)
    assert len(rows) >= 18
    for row in rows:
        assert all(row[key] for key in ("modality", "mode", "metric", "split", "prompt", "data")), row


def test_score_prints_pure_json(vqa_root: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "p.jsonl"
    predictions.write_text("".join(f'{{"id": "{i}", "prediction": "red"}}\n' for i in range(100, 112)))
    done = flamingo_eval("score", "vqav2", "--data", vqa_root, "--predictions", predictions, "--json")
    value = json.loads(done.stdout)
    assert done.returncode == 0
    assert (value["split"], value["n"], value["value"]) == ("val", 12, pytest.approx(100 / 12))
    assert value["per_example"]["100"] == 100.0


def test_score_says_the_form_and_prints_the_headline_last(vqa_root: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([{"question_id": i, "answer": "red"} for i in range(100, 106)]))
    words = ["score", "vqav2", "--data", str(vqa_root), "--predictions", str(answers)]
    done = flamingo_eval(*words)
    assert done.returncode == 1
    assert "6 of 12 queries of split 'val' have no prediction" in done.stderr
    done = flamingo_eval(*words, "--partial", "--dialect", "openflamingo")
    assert done.returncode == 0, done.stderr
    assert "a JSON list: ids from 'question_id', answers from 'answer'" in done.stderr
    last = done.stdout.strip().split("\n")[-1]
    assert last.startswith("vqav2, val: VQA acc. (openflamingo) ")
    assert last.endswith("n = 6 (partial: 6 of 12 queries are answered and scored)")
    done = flamingo_eval(*words, "--partial", "--dialect", "openflamengo")
    assert (done.returncode, "Did you mean 'openflamingo'?" in done.stderr) == (2, True)


def test_show_prints_the_prompt_and_nothing_else(vqa_root: Path) -> None:
    done = flamingo_eval("show", "vqav2", "--shots", "2", "--data", vqa_root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<BOS><image>Question: What colour is wall")
    assert done.stdout.endswith("<EOC><image>Question: What colour is square 0? Answer:\n")
    assert done.stdout.count("<image>") == 3
    peer = flamingo_eval("show", "vqav2", "--shots", "1", "--data", vqa_root, "--protocol", "openflamingo")
    assert peer.stdout.startswith("<image>Question:What colour is wall")
    assert "<|endofchunk|>\n<image>Question:What colour is square 0? Short answer:\n" in peer.stdout


def test_too_many_shots_say_how_many_there_are(vqa_root: Path) -> None:
    done = flamingo_eval("run", "vqav2", "--shots", "32", "--data", vqa_root)
    assert done.returncode == 1
    assert "32 shots requested" in done.stderr
    assert "has 10 rows on 10 pictures" in done.stderr


def test_broken_media_stop_a_run_before_the_model(vqa_root: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "vqa"
    shutil.copytree(vqa_root, root)
    (root / "val2014" / "COCO_val2014_000000000003.jpg").unlink()
    cut = root / "train2014" / "COCO_train2014_000000000020.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    done = flamingo_eval("run", "vqav2", "--shots", "8", "--data", root)
    assert done.returncode == 1
    assert "2 pictures or clips cannot be read" in done.stderr
    assert "COCO_val2014_000000000003.jpg: there is no such file" in done.stderr
    assert "loading the model" not in done.stderr
