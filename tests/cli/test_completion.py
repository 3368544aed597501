"""Shell completion, asked as a shell asks: by environment variables."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(shell: str, line: str) -> str:
    """What bash or zsh is told for a line with the cursor at its end."""
    words = line.split(" ")
    variables = {"_FLAMINGO_EVAL_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    variables["_TYPER_COMPLETE_ARGS"] = line
    program = (
        "import sys; sys.argv[0] = 'flamingo-eval'; from flamingo_eval.cli import app; app(prog_name='flamingo-eval')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flamingo-eval re", ["report", "rerun"]),
        ("flamingo-eval run vqa", ["vqav2"]),
        ("flamingo-eval show text", ["textcaps", "textvqa"]),
        ("flamingo-eval run vqav2 --protocol open", ["openflamingo"]),
        ("flamingo-eval run vqav2 --dry", ["--dry-run"]),
        ("flamingo-eval run vqav2 --ablation labels-s", ["labels-shuffled"]),
        ("flamingo-eval run vqav2 --demos rices", ["rices", "rices-text", "rices-both"]),
        ("flamingo-eval list me", ["metrics"]),
        ("flamingo-eval report --format la", ["latex"]),
        ("flamingo-eval report --compare Flamingo-8", ["Flamingo-80B"]),
        ("flamingo-eval cache cl", ["clear"]),
    ],
)
def test_bash_is_told_commands_tasks_protocols_and_options(line: str, expected: list[str]) -> None:
    assert completed("bash", line).split() == expected


def test_zsh_is_told_the_same() -> None:
    assert "vqav2" in completed("zsh", "flamingo-eval run vqa")


def test_completion_loads_nothing_heavy() -> None:
    """A shell waits for it at every tab."""
    program = (
        "import sys\nfrom flamingo_eval.cli.options import complete_task\nimport flamingo_eval.cli\n"
        "assert 'vqav2' in complete_task('v')\nsys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
