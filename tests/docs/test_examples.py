"""What README.md and docs/ tell people to type: every command is one that exists, and those that need nothing run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from flamingo_eval.cli import app

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FOREIGN = re.compile(r"[A-Z]{3,}|^[AB]$|^/|^\./|mine\.jsonl|scontrol|my_task|^runs?/|myprotocol|\.yaml$")
MOST_RUNS = 4


def commands_of(page: Path) -> list[list[str]]:
    """The words of each `flamingo-eval ...` in a page's shell blocks, without the program."""
    commands = []
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.partition(" #")[0].strip()
            _, known, rest = text.partition("flamingo-eval ")
            if not known:
                _, known, rest = text.partition("-m flamingo_eval ")
            if known and not text.startswith("#"):
                commands.append(shlex.split(rest))
    return commands


COMMANDS = [(page.name, words) for page in PAGES for words in commands_of(page)]
NAMED = [pytest.param(words, id=f"{page}: {' '.join(words)[:60]}") for page, words in COMMANDS]
QUICK = ("show", "list")


def runs_in(words: list[str]) -> int:
    """How many runs a `run` command makes."""
    tasks = [w for w in words[1:] if not w.startswith("-")]
    product = 1
    for option in ("--shots", "--seeds"):
        if option in words:
            value = words[words.index(option) + 1]
            tasks.remove(value)
            product *= len(value.split(","))
    return product * max(1, len(tasks))


def needs_nothing(words: list[str]) -> bool:
    """Whether a command runs as it stands on the sample, in seconds."""
    if any(FOREIGN.search(w) for w in words) or "--ray" in words or "all" in words:
        return False
    if words[0] == "run":
        return "--dry-run" in words or ("--limit" in words and runs_in(words) <= MOST_RUNS)
    return words[0] in ("show", "list", "doctor", "cache") and "clear" not in words


def test_there_are_commands_on_every_page_of_use() -> None:
    pages = {page for page, _ in COMMANDS}
    assert {"README.md", "first-run.md", "install.md", "report.md", "scale.md", "scores.md", "datasets.md"} <= pages
    assert sum(needs_nothing(words) for _, words in COMMANDS) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("words", NAMED)
def test_every_command_and_option_exists(words: list[str]) -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, click.Group)
    if words[0].startswith("-"):
        root.make_context("flamingo-eval", words, resilient_parsing=True)
        return
    command: click.Command | None = root.get_command(click.Context(root), words[0])
    assert command is not None, f"there is no command {words[0]}"
    rest = words[1:]
    while isinstance(command, click.Group):
        command, rest = command.get_command(click.Context(command), rest[0]), rest[1:]
    assert command is not None
    command.make_context(words[0], list(rest))  # raises for an option that does not exist


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docs")


def runnable() -> list[Any]:
    """The commands that need nothing; those that run a model or look through the machine are slow."""
    return [
        pytest.param(words, id=named.id, marks=() if words[0] in QUICK else pytest.mark.slow)
        for (_, words), named in zip(COMMANDS, NAMED, strict=True)
        if needs_nothing(words)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("words", runnable())
def test_commands_that_need_nothing_run(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, words)
    allowed = (0, 1) if words[0] == "doctor" else (0,)  # it ends with 1 where NLTK's data is missing
    assert result.exit_code in allowed, (result.output, result.exception)


@pytest.mark.slow
def test_the_first_run_can_be_read_in_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of first-run.md, after its command."""
    monkeypatch.chdir(place)
    page = (ROOT / "docs" / "first-run.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    run = next(words for words in commands_of(ROOT / "docs" / "first-run.md") if words[0] == "run")
    assert CliRunner().invoke(app, run).exit_code == 0
    names: dict[str, Any] = {}
    exec(compile(example, "first-run.md", "exec"), names)
    assert len(names["scores"]) >= 4


@pytest.mark.slow
def test_the_examples_of_python_md_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    named, own = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    tables = []
    for example in (named, own):
        names: dict[str, Any] = {}
        exec(compile(example, "python.md", "exec"), names)
        tables.append(names["result"].frame)
    assert list(tables[0]["shots"]) == [0, 4]
    assert set(tables[1]["model"]) == {"Parrot"}
    assert set(tables[1]["metric"]) >= {"vqa_accuracy", "roc_auc"}
