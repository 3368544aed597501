"""docs/models.md: the command of each family runs, on a tiny folder of it; that of each server, on a fake one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flamingo_eval.cli import app
from tests.support.chat_server import ChatServer
from tests.support.more_tiny_vlm import MORE_FAMILIES
from tests.support.tiny_vlm import save_tiny

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
FAMILIES = {
    "Qwen2.5-VL-7B-Instruct": "qwen2_5_vl",
    "Qwen3-VL-8B-Instruct": "qwen3_vl",
    "Idefics3-8B-Llama3": "idefics3",
    "SmolVLM-Instruct": "smolvlm",
    "llava-onevision-qwen2-7b-ov-hf": "llava_onevision",
    "InternVL3-8B-hf": "internvl",
    "gemma-3-4b-it": "gemma3",
    "Llama-3.2-11B-Vision-Instruct": "mllama",
}
LOCAL = re.findall(r"^flamingo-eval (run .*--model hf:\./(\S+).*)$", PAGE, re.MULTILINE)
SERVED = re.findall(r"\| `flamingo-eval (run [^`]*openai:[^`]*)` \|", PAGE)


def invoke(command: str, folder: Path, *more: str) -> Result:
    """The command with few shots and queries."""
    words = shlex.split(command.split(" #")[0])
    if "--shots" in words:
        words[words.index("--shots") + 1] = "0,1"
    words += ["--limit", "2", "--out", str(folder / "results"), *more]
    return CliRunner().invoke(app, words, catch_exceptions=True)


def test_the_page_has_eight_families_and_four_servers() -> None:
    assert sorted(name for _, name in LOCAL) == sorted(FAMILIES)
    assert len(SERVED) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name"), LOCAL, ids=[name for _, name in LOCAL])
def test_the_command_of_a_family_runs(command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES[name]
    save_tiny(family, tmp_path / name, MORE_FAMILIES.get(family))
    monkeypatch.chdir(tmp_path)
    result = invoke(command, tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "vqav2@sample" in result.stdout
    assert len(list(tmp_path.rglob("scores.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVED, ids=range(len(SERVED)))
def test_the_command_of_a_server_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    with ChatServer(lambda _: "red", key="sk-not-a-key", model="NAME").running() as server:
        result = invoke(re.sub(r"openai:\S+", f"openai:{server.url}", command), tmp_path)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert server.n == 2
