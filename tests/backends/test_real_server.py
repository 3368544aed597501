"""`transformers serve` on loopback with a tiny folder answers as `hf:` does. One table and page of all models."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flamingo_eval.cli import app
from tests.support.tiny_vlm import save_tiny

SECONDS = 180.0  # until the server answers, on a machine that others use

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")),
        reason="transformers serve needs them",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("idefics3", tmp_path_factory.mktemp("served") / "tiny-idefics3")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    words = [program, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = folder / "serve.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [*map(str, words), "--dtype", "float32"],
            stdout=file,
            stderr=file,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        ends = time.monotonic() + SECONDS
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > ends:
                pytest.fail(f"transformers serve does not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield f"openai:http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx2.TransportError:
        return False


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=True)


def ran(out: Path, *words: str | Path) -> dict[str, dict[str, str]]:
    """The generated text of every query, by number of shots and id."""
    result = command("run", *words, "--limit", "5", "--out", out)
    assert result.exit_code == 0, result.output + str(result.exception)
    return {
        path.parent.name[:6]: {line["id"]: line["raw"] for line in map(json.loads, path.read_text().splitlines())}
        for path in out.rglob("outputs.jsonl")
    }


@pytest.mark.parametrize("task", ["vqav2", "coco"])
def test_a_real_server_gives_the_answers_of_the_local_model(
    task: str, address: str, folder: Path, tmp_path: Path
) -> None:
    shots = ("--shots", "0,2")
    served = ran(tmp_path / "server", task, *shots, "--model", address, "--model-args", f"model={folder}")
    local = ran(tmp_path / "local", task, *shots, "--model", f"hf:{folder}", "--device", "cpu")
    assert sorted(served) == ["0shot-", "2shot-"]
    assert served == local
    assert any(text for texts in local.values() for text in texts.values())


def test_all_kinds_of_models_are_in_one_table_and_on_one_page(address: str, folder: Path, tmp_path: Path) -> None:
    shots, out = ("--shots", "0,2"), tmp_path / "results"
    ran(out, "vqav2", *shots, "--model", "tiny")
    ran(out, "vqav2", *shots, "--model", f"hf:{folder}", "--device", "cpu")
    ran(out, "vqav2", *shots, "--model", address, "--model-args", f"model={folder},label=served")
    episodes, answers = tmp_path / "episodes.jsonl", tmp_path / "answers.jsonl"
    assert command("export", "vqav2", *shots, "--limit", "5", "--out", episodes).exit_code == 0
    lines = [{**json.loads(line), "prediction": "red"} for line in episodes.read_text().splitlines()]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for k in ("0", "2"):
        words = ("--predictions", answers, "--name", "other", "--out", out, "--shots", k, "--seed", "0")
        result = command("score", "vqav2", *words)
        assert result.exit_code == 0, result.output + str(result.exception)
    table = command("report", out, "--format", "csv")
    assert table.exit_code == 0, table.output
    rows = [line.split(",") for line in table.stdout.splitlines()]
    for name, protocol in (
        ("tiny", "flamingo"),
        ("tiny-idefics3", "chat"),
        ("tiny-idefics3@served", "chat"),
        ("other", "flamingo"),
    ):
        own = [row for row in rows if name in row]
        assert {len(own), sum(protocol in row for row in own)} == {2}, (name, rows)
    page = tmp_path / "page.html"
    assert command("report", out, "--format", "html", "--out", page).exit_code == 0
    assert "tiny-idefics3@served" in page.read_text(encoding="utf-8")
