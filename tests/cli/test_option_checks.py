"""What is wrong with options is said before anything is read: all of it at once, and within a second of work."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.cli.option_checks import (
    DTYPES,
    Checks,
    check_count,
    check_deployment,
    check_out_file,
    check_out_folder,
)
from flamingo_eval.cli.options import PlanOptions
from flamingo_eval.config.specs import DemoMethod
from flamingo_eval.errors import FlamingoEvalError, UsageError
from flamingo_eval.models import loaded


def message(call: Callable[[], object]) -> str:
    with pytest.raises(FlamingoEvalError) as caught:
        call()
    return str(caught.value)


def invoked(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, FlamingoEvalError), result.output
    return str(result.exception)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = invoked(
        "run", "vqav3", "--dtype", "flaot32", "--device", "gpu", "--batch-size", "none", "--out",
        str(tmp_path / "file" / "x"), "--shots", "a", "--seeds", "b", "--protocol", "flamng", "--model", "tinny",
        "--demos", "randm", "--temperature", "1", "--expect", "vqav2 >= 60",
    )  # fmt: skip
    assert text.startswith("12 problems with the options:\n")
    for part in (
        "--dtype flaot32: Did you mean 'float32'?",
        "--device gpu: Did you mean 'cuda'?",
        "--batch-size none: expected `auto` or a number from 1.",
        "is no folder",
        "invalid value for --shots: 'a'",
        "invalid value for --seeds: 'b'",
        "unknown task 'vqav3'. Did you mean 'vqav2'?",
        "unknown protocol 'flamng'. Did you mean 'flamingo'?",
        "tinny: there is no such folder. Did you mean 'tiny'?",
        "--demos randm: Did you mean 'random'?",
        "--expect 'vqav2 >= 60': expected TASK",
        "--temperature 1: decoding is deterministic",
    ):
        assert part in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("score", "vqav3", "--predictions", "nowhere", "--name", "a", "--out", "FILE"),
         ("--predictions nowhere: there is no such file", "it is a file", "Did you mean 'vqav2'")),
        (("export", "vqav2", "--out", "FILE/e.jsonl", "--media", "cpy"), ("Did you mean 'copy'", "is no folder")),
        (("rerun", "nowhere", "--device", "gpu", "--out", "FILE"), ("'cuda'", "it is a file", "no such folder")),
        (("report", "nowhere", "--format", "htm", "--figure", "FILE/f.svg"), ("'html'", "is no folder")),
        (("smoke", "--device", "cpus"), ("Did you mean 'cpu'?",)),
        (("convert", "openflamingo", "--checkpoint", "no.pt", "--language-model", "no-lm", "--vision", "no-clip",
          "--tokenizer", "no-tokens", "--cross-attention-every", "1", "--out", "FILE"),
         ("5 problems", "--checkpoint no.pt: there is no such file or folder", "--language-model no-lm",
          "--vision no-clip", "--tokenizer no-tokens", "it is a file")),
        (("convert", "idefics", "--model", "nowhere", "--out", "FILE/x"), ("--model nowhere", "is no folder")),
        (("build", "--vision", "nowhere", "--language-model", "no-lm", "--out", "/proc/x/y"),
         ("--vision nowhere", "--language-model no-lm", "--out /proc/x/y: cannot be written")),
        (("train", "tinyy", "--out", "FILE/x", "--device", "gpu", "--frozen", "nowhere"),
         ("no recipe 'tinyy'. Did you mean 'tiny'?", "is no folder", "'cuda'", "--frozen nowhere")),
    ],
    ids=["score", "export", "rerun", "report", "smoke", "convert", "idefics", "build", "train"],
)  # fmt: skip
def test_other_commands_check_their_options_too(words: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "FILE").touch()
    text = invoked(*(word.replace("FILE", str(tmp_path / "FILE")) for word in words))
    assert all(part in text for part in parts), text


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("run", "vqav2", "--dtype", "flaot32", "--data", "nowhere"),
        ("train", "bridge", "--out", "/dev/null/x", "--device", "gpu"),
        ("build", "--vision", "nowhere", "--language-model", "nowhere", "--out", "/dev/null"),
        ("convert", "idefics", "--model", "nowhere", "--out", "."),
    ],
    ids=["run", "train", "build", "convert"],
)
def test_nothing_is_read_and_torch_is_not_imported_for_it(words: tuple[str, ...], tmp_path: Path) -> None:
    probe = (
        "import sys, flamingo_eval.cli\n"
        f"sys.argv = ['flamingo-eval', *{words}]\n"
        "try: flamingo_eval.cli.main()\n"
        "except SystemExit as e: assert e.code == 2\n"
        "heavy = {'torch', 'transformers', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "import resource; used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0 if used.ru_utime < 2 else f'{used.ru_utime} s')"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_dtypes_are_those_that_models_take() -> None:
    assert set(DTYPES) == {"auto", *loaded.DTYPES}
    assert "random" in get_args(DemoMethod)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_devices_that_are_always_there(device: str) -> None:
    check_deployment(device, "auto")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"replicas": "2"}, "Add --ray local"),
        ({"ray": "local", "replicas": "none"}, "--replicas none: expected `auto`"),
        ({"ray": "local", "tensor_parallel": 2}, "a replica uses one GPU"),
        ({"tensor_parallel": 2}, "torchrun --nproc-per-node 2"),
    ],
)
def test_processes_that_do_not_fit_together(options: dict[str, object], part: str) -> None:
    assert part in message(lambda: check_deployment("cpu", "auto", **options))  # type: ignore[arg-type]


def test_numbers_or_auto() -> None:
    check_count("auto", "--x")
    check_count("12", "--x")
    for text in ("0", "-1", "1.5", "", "١٢"):
        assert "expected `auto` or a number from 1" in message(lambda text=text: check_count(text, "--x"))  # type: ignore[misc]


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    check_out_folder(tmp_path / "a" / "b")
    check_out_file(tmp_path / "a" / "b.jsonl")
    check_out_file(Path("/dev/stdout"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked: permission denied" in message(lambda: check_out_folder(tmp_path / "locked" / "x"))


@contextmanager
def nothing_can_be_written() -> Iterator[None]:
    """The kernel refuses every byte of a file, as a read-only or full disk would, for root too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_finished_run_is_printed_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    words = ["run", "vqav2", "--limit", "2", "--out", str(tmp_path), "--shots"]
    CliRunner().invoke(app, [*words, "0"], catch_exceptions=False)
    with nothing_can_be_written():
        again = CliRunner().invoke(app, [*words, "0"])
        more = CliRunner().invoke(app, [*words, "0,4"])
        fresh = CliRunner().invoke(app, [*words, "0", "--fresh"])
        elsewhere = CliRunner().invoke(app, ["run", "vqav2", "--out", str(tmp_path / "vqav2@sample" / "tiny")])
    assert again.exit_code == 0
    assert "already done" in again.output
    for refused in (more, fresh, elsewhere):
        assert isinstance(refused.exception, UsageError)
        assert "cannot be written: file too large." in str(refused.exception)
    assert len(list(tmp_path.rglob("scores.json"))) == 1


def test_one_error_stays_as_it_is() -> None:
    checks = Checks()
    checks.attempt(lambda: check_count("x", "--x"))
    with pytest.raises(UsageError, match=r"^--x x: expected"):
        checks.require()


def test_run_and_export_take_the_same_options_of_runs() -> None:
    for command in ("run", "export"):
        text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        assert not [f.name for f in fields(PlanOptions) if f"--{f.name.replace('_', '-')} " not in text]
