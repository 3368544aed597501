"""What people read while a run goes on: named phases, never 100 % without a word, few lines in a log."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flamingo_eval.cli import app, progress_bar
from flamingo_eval.cli.progress_bar import ProgressBar
from flamingo_eval.runs.session import Observer


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_phase_the_count_the_speed_and_the_score_stand_on_one_line() -> None:
    clock = Clock()
    bar = ProgressBar("vqav2 4-shot seed 0", 100, quiet=True, clock=clock)
    bar.phase("answering", 0, 100)
    for i in range(1, 6):
        clock.now = float(i)
        bar.update(10 * i, "VQA acc. 61.2")
    assert bar.line() == "vqav2 4-shot seed 0: answering 50/100, 10.0/s, 5.0 s left, VQA acc. 61.2"


def test_nothing_stands_at_100_percent_without_a_word() -> None:
    clock = Clock()
    bar = ProgressBar("coco", 10, quiet=True, clock=clock)
    bar.phase("answering", 0, 10)
    clock.now = 9.0
    bar.update(10)
    for phase in ("scoring CIDEr", "interval of CIDEr", "writing"):
        bar.phase(phase)
        assert bar.line() == f"coco: {phase}"


def test_answers_that_wait_for_pictures_say_so() -> None:
    clock, encoded = Clock(), [0]
    bar = ProgressBar("vqav2", 100, quiet=True, encoded=lambda: encoded[0], clock=clock)
    bar.phase("answering", 0, 100)
    assert bar.phase_name() == "answering"
    clock.now, encoded[0] = 3.0, 240
    assert bar.phase_name() == "encoding pictures (240)"
    bar.update(16)
    assert bar.phase_name() == "answering"


def test_a_log_of_ten_hours_is_short(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(progress_bar, "ASLEEP", 0.0)

    class Passing:
        """An event that ends after ten hours of the test's clock, half a second a look."""

        def wait(self, _: float) -> bool:
            clock.now += 0.5
            return clock.now > 36_000

    bar = ProgressBar("vqav2", 200_000, clock=clock)
    bar._ended = Passing()  # type: ignore[assignment]
    bar._lines()
    assert capsys.readouterr().err == "vqav2: answering 0/200,000\n"  # nothing new, and one line says it

    bar = ProgressBar("vqav2", 200_000, clock=clock)
    bar.phase("answering", 0, 200_000)
    monkeypatch.setattr(bar, "line", lambda: f"{clock.now}")
    clock.now = 0.0
    bar.began = 0.0
    bar._ended = Passing()  # type: ignore[assignment]
    bar._lines()
    lines = capsys.readouterr().err.splitlines()
    assert 20 < len(lines) < 90


def test_a_phase_is_named_in_a_pipe_even_if_nothing_else_happens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_bar, "FIRST_LINE", 0.05)
    monkeypatch.setattr(progress_bar, "ASLEEP", 0.02)
    with ProgressBar("coco", 10) as bar:
        bar.phase("scoring METEOR")
        end = time.monotonic() + 5
        text = ""
        while "scoring METEOR" not in text and time.monotonic() < end:
            time.sleep(0.02)
            text += capsys.readouterr().err
    assert "coco: scoring METEOR" in text


def test_a_late_phase_does_not_wait_for_the_next_line_of_the_one_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks = Clock(), iter([0.5] * 812)  # 400 seconds of answers, 6 of scoring
    monkeypatch.setattr(progress_bar, "ASLEEP", 0.0)
    bar = ProgressBar("coco", 10, clock=clock)

    class Passing:
        """Scoring begins after 400 s, and is looked at for six more."""

        def wait(self, _: float) -> bool:
            step = next(looks, None)
            clock.now += step or 0.0
            if clock.now - bar.began == 400:
                bar.phase("scoring METEOR")
            return step is None

    bar._ended = Passing()  # type: ignore[assignment]
    bar._lines()
    assert capsys.readouterr().err.splitlines()[-1] == "coco: scoring METEOR"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_terminal_shows_phase_count_and_time_on_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(), io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    drawn = Console(file=screen, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress_bar, "console", lambda stderr: drawn)
    title = "vl_icl_operator_induction_interleaved@sample 16-shot seed 0"
    with ProgressBar(title, 400, clock=clock) as bar:
        bar.phase("answering", 0, 400)
        for i in range(1, 6):
            clock.now = float(i)
            bar.update(32 * i, "VL-ICL acc. 61.2")
        assert bar._bar is not None
        bar._bar.refresh()
        last = screen.getvalue().split("\r")[-1].rstrip("\n")
        bar.phase("scoring VL-ICL acc.")
        bar._bar.refresh()
    assert "\n" not in last
    assert all(text in last for text in (": answering", "160/400", "7.5 s left"))
    assert ": scoring VL-ICL acc." in screen.getvalue()


def test_a_run_goes_through_its_phases_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(
        "flamingo_eval.cli.progress.Progress.phase", lambda self, name, done=0, total=0: names.append(name)
    )
    options = ["--shots", "2", "--limit", "4", "--demos", "rices-text", "--support-size", "8"]
    result = CliRunner().invoke(app, ["run", "vqav2", *options, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    kept = [name for name in dict.fromkeys(names) if name != "encoding for RICES"]  # known from an earlier run, perhaps
    assert kept == ["choosing demonstrations", "answering", "scoring VQA acc.", "interval of VQA acc.", "writing"]


def test_an_observer_need_not_watch_phases() -> None:
    Observer().phase("scoring")
    Observer().prompts(())
