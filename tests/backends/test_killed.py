"""A command killed with SIGKILL in the middle and started again writes the file of one that was not, on any backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_server import ChatServer
from tests.support.tiny_vlm import save_tiny

SECONDS = 180.0
OWN = """
import time


class Slow:
    batch_size = 1

    def generate(self, prompts, spec):
        time.sleep(0.05)
        return [f"answer {p.id}" for p in prompts]

    def score(self, prompts, candidates, spec):
        return [[0.0] * len(names) for names in candidates]
"""


def last_text(body: Mapping[str, Any]) -> str:
    """What is asked last, with the number of turns before it."""
    content = body["messages"][-1]["content"]
    texts = [part.get("text", "") for part in content] if isinstance(content, list) else [content]
    return f"{len(body['messages'])} {' '.join(texts)[:30]}"


def started(out: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flamingo_eval", "run", "vqav2", "--shots", "2", "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--out", str(out), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ)
    )


def outputs_of(out: Path) -> list[Path]:
    return list(out.rglob("outputs.jsonl"))


def killed_after(n: int, out: Path, *words: str) -> None:
    """Kill the command as soon as its file has `n` lines."""
    process = started(out, *words)
    ends = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < ends:
        if any(path.read_bytes().count(b"\n") >= n for path in outputs_of(out)):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()


def finished(out: Path, *words: str) -> bytes:
    process = started(out, *words)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    (path,) = outputs_of(out)
    return path.read_bytes()


def same_after_a_kill(tmp_path: Path, *words: str) -> None:
    whole = finished(tmp_path / "whole", *words)
    killed_after(4, tmp_path / "killed", *words)
    (cut,) = outputs_of(tmp_path / "killed")
    assert 4 <= cut.read_bytes().count(b"\n") < whole.count(b"\n")
    assert finished(tmp_path / "killed", *words) == whole


@pytest.mark.slow
def test_a_model_behind_a_server(tmp_path: Path) -> None:
    with ChatServer(last_text, latency=0.05).running() as server:
        args = f"model={server.model},concurrency=4"
        same_after_a_kill(tmp_path, "--limit", "60", "--model", f"openai:{server.url}", "--model-args", args)
        server.bodies.clear()
    assert server.n < 2 * 60 + 4 + 4  # what was answered is not asked again; some were in flight


@pytest.mark.slow
def test_a_model_of_transformers(tmp_path: Path) -> None:
    folder = save_tiny("idefics3", tmp_path / "tiny-idefics3")
    same_after_a_kill(tmp_path, "--limit", "40", "--batch-size", "2", "--model", f"hf:{folder}")


@pytest.mark.slow
def test_a_class_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    same_after_a_kill(tmp_path, "--limit", "40", "--model", f"{tmp_path / 'own.py'}:Slow")
