"""folder.py: what is on disk is whole, whatever happened while it was written."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_eval.errors import RunError
from flamingo_eval.records import Output
from flamingo_eval.runs.folder import (
    RunFolder,
    appending,
    find_runs,
    locked,
    output_line,
    parse_output,
    read_outputs,
    write_error,
    write_json,
    write_outputs,
)
from flamingo_eval.runs.record import SCHEMA, read_run, read_scores

OUTPUTS = [
    Output("1", ("a", "b"), 12, raw=' "x"\n', prediction="x", score=30.0),
    Output("2", (), 3, raw="", prediction=""),
    Output("é\u2028", ("a",), 7, scores=(-1.25, float("-inf"), -0.5)),
    Output("4", (), 0, error="4.jpg: there is no such file."),
]


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_survives_its_line(output: Output) -> None:
    line = output_line(output)
    assert line.count("\n") == 1
    assert parse_output(line) == output


def test_a_file_torn_at_any_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    text = "".join(map(output_line, OUTPUTS)).encode()
    ends = [i + 1 for i, b in enumerate(text) if b == 10]
    for cut in range(len(text) + 1):
        path.write_bytes(text[:cut])
        outputs, whole = read_outputs(path)
        n = sum(end <= cut for end in ends)
        assert outputs == OUTPUTS[:n]
        assert whole == ([0, *ends][n])
        with appending(path, whole) as file:
            for output in OUTPUTS[n:]:
                file.write(output_line(output))
        assert path.read_bytes() == text


@pytest.mark.parametrize("line", ["[]", "{}", "nonsense", '{"id": 1, "shots": 5}', '{"id": "x", "scores": ["y"]}'])
def test_a_foreign_line_ends_what_is_believed(tmp_path: Path, line: str) -> None:
    path = tmp_path / "outputs.jsonl"
    path.write_text(output_line(OUTPUTS[0]) + line + "\n" + output_line(OUTPUTS[1]))
    assert read_outputs(path) == (OUTPUTS[:1], len(output_line(OUTPUTS[0]).encode()))


def test_no_file_is_no_outputs(tmp_path: Path) -> None:
    assert read_outputs(tmp_path / "outputs.jsonl") == ([], 0)


def test_json_is_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"schema": SCHEMA, "n": 1})

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(RunError, match="the disk is full"):
        write_json(path, {"schema": SCHEMA, "n": 2})
    assert json.loads(path.read_text())["n"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.json"]


def test_a_full_disk_while_appending_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="Free some space, then run the same command"),
        appending(tmp_path / "o.jsonl", 0),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "cannot be written" in str(write_error(tmp_path, OSError(errno.EACCES, "Permission denied")))


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"value": float("nan")})


def test_a_second_process_leaves_a_run_alone(tmp_path: Path) -> None:
    probe = (
        "import sys; from pathlib import Path\n"
        "from flamingo_eval.errors import RunError\n"
        "from flamingo_eval.runs.folder import RunFolder, locked\n"
        "try:\n with locked(RunFolder(Path(sys.argv[1]))): print('mine')\n"
        "except RunError as e: print(e)"
    )

    def second() -> str:
        done = subprocess.run([sys.executable, "-c", probe, tmp_path], capture_output=True, text=True, check=True)
        return done.stdout

    with locked(RunFolder(tmp_path)):
        assert "another process is writing this run" in second()
    assert second() == "mine\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [("{", "not JSON"), ("[]", "expected an object"), ('{"schema": 99}', "schema 99; this version reads")],
)
def test_records_that_cannot_be_read(tmp_path: Path, text: str, what: str) -> None:
    for name, read in (("scores.json", read_scores), ("run.json", read_run)):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(RunError, match=what):
            read(path)


def test_find_runs(tmp_path: Path) -> None:
    for name in ("b/run", "a/run"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "scores.json").write_text("{}")
    (tmp_path / "c").mkdir()
    assert [f.path.parent.name for f in find_runs([tmp_path, tmp_path / "a"])] == ["a", "b"]
    with pytest.raises(RunError, match="no complete run"):
        find_runs([tmp_path / "c"])
    with pytest.raises(RunError, match="no such folder"):
        find_runs([tmp_path / "d"])


def test_outputs_are_rewritten_in_order(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    write_outputs(path, OUTPUTS[::-1])
    assert read_outputs(path)[0] == OUTPUTS[::-1]
