"""The Java children: a fixed language, options that are ours alone, errors that stay with their own metric."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import pytest

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.errors import MetricError
from flamingo_eval.metrics import java as java_module
from flamingo_eval.metrics import load_metric, meteor
from flamingo_eval.metrics.java import find_java, java_environment, version_in
from flamingo_eval.metrics.scoring import score_all
from flamingo_eval.records import Example, Prediction

SAID = [Prediction("1", "a red bus"), Prediction("2", "a cat on a sofa")]
GIVEN = [Example("1", (), "1", references=("a red bus",)), Example("2", (), "2", references=("the cat is there",))]


@pytest.fixture
def own_program(java: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `java` that is Java, but for METEOR: there it runs the lines that a test writes to `meteor` beside it."""
    real, path = find_java(), tmp_path / "java"
    path.write_text(f'#!/bin/sh\ncase "$*" in *meteor*) . "{tmp_path}/meteor";; *) exec "{real.path}" "$@";; esac\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(java_module, "_places", lambda: [(path, "system")])
    monkeypatch.setattr(meteor, "_running", lru_cache(maxsize=1)(meteor._running.__wrapped__))  # the real one stays
    find_java.cache_clear()
    yield tmp_path / "meteor"
    find_java.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("echo no such class >&2; exit 1", "no such class"),
        ("while read line; do echo 12,5; done", "expected a number, got '12,5'"),
        ("read line; echo 1; exit 0", "it stopped"),
        ("", "it stopped"),
    ],
)
def test_what_goes_wrong_in_meteor_stays_with_meteor(own_program: Path, program: str, what: str) -> None:
    own_program.write_text(f"{program}\n")
    scores, _ = score_all(SAID, GIVEN, [MetricSpec("rouge_l"), MetricSpec("meteor"), MetricSpec("bleu")])
    assert [s.value is None for s in scores] == [False, True, False]
    assert what in scores[1].why_undefined
    assert scores[1].unscored
    with pytest.raises(MetricError, match="METEOR's Java program failed"):
        load_metric("meteor")(SAID, GIVEN)


@pytest.mark.slow
def test_a_meteor_that_never_answers_does_not_hold_up_the_exit(own_program: Path) -> None:
    """Interrupted while it waits, the process ends, and METEOR's program with it."""
    script = (
        "import signal\n"
        "from pathlib import Path\n"
        "from flamingo_eval.metrics import java\n"
        f"java._places = lambda: [(Path({str(own_program.parent / 'java')!r}), 'system')]\n"
        "from flamingo_eval.metrics.meteor import meteor_scores\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "signal.alarm(2)\n"
        "meteor_scores(['a'], [['a']])\n"
    )
    own_program.write_text("exec sleep 600\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "KeyboardInterrupt" in done.stderr


def test_options_of_other_programs_do_not_reach_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"):
        monkeypatch.setenv(name, "-Duser.language=de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert not [name for name, value in java_environment().items() if "user.language" in value]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "21.0.2" 2024-01-16\nOpenJDK Runtime', "21.0.2"),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx="1"\njava version "1.8.0_392"', "1.8.0_392"),
        ('OpenJDK 64-Bit Server VM warning: Sharing is off\nopenjdk version "17" 2021-09-14', "17"),
        ("", "unknown"),
    ],
)
def test_the_version_is_read_past_other_lines(text: str, version: str) -> None:
    assert version_in(text) == version


@pytest.mark.slow
@pytest.mark.parametrize("language", ["de", "tr"])
def test_meteor_reads_its_numbers_in_any_language(java: None, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """Both write numbers with a comma, and Turkish lower-cases I to a letter without a dot."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"-Duser.language={language}")
    monkeypatch.setenv("LC_ALL", f"{language}_{language.upper()}.UTF-8")
    with closing(meteor.Meteor()) as program:
        overall, each = program.score(["A BIG RED BUS", "in it"], [["A BIG RED BUS"], ["in the bus"]])
    assert overall == pytest.approx(0.42, abs=0.2)
    assert each[0] == pytest.approx(1.0)
