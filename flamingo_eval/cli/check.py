"""flamingo-eval check: whether a download is complete and readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flamingo_eval.cli.options import Data, Images, Json, Split, Task

if TYPE_CHECKING:
    from flamingo_eval.data.check import CheckReport


def check(
    task: Task,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    as_json: Json = False,
) -> None:
    """Compare a task's rows with the official counts, and list missing, truncated and wrong files.

    Exit code 1 if there is a problem.
    """
    import dataclasses

    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.cli.progress_bar import ProgressBar
    from flamingo_eval.config.names import find_task
    from flamingo_eval.config.settings import data_choice, image_folders
    from flamingo_eval.data.check import check_task
    from flamingo_eval.data.roots import data_root
    from flamingo_eval.data.task_file import load_task
    from flamingo_eval.files import printable

    spec = load_task(find_task(task))
    root = data_root(data_choice(data), spec.name, image_folders(images))
    with ProgressBar(spec.name, 0, quiet=as_json, phase="reading rows") as bar:
        report = check_task(spec, root, split, on_progress=lambda done, total: bar.phase("reading media", done, total))
    if as_json:
        value = dataclasses.asdict(report)
        value["root"], value["problems"] = printable(report.root), [printable(str(p)) for p in report.problems]
        value["splits"] = [{**s, "files": [printable(path) for path in s["files"]]} for s in value["splits"]]
        print_json({**value, "ok": not report.problems, "complete": not report.problems and not report.partial})
    else:
        print_table(
            ("split", "rows", "official", "media", "missing", "unreadable"),
            [
                (s.name, s.rows, "?" if s.official is None else s.official, s.media, s.missing, s.unreadable)
                for s in report.splits
            ],
            numbers_from=1,
        )
        for problem in report.problems:
            say(str(problem))
        for note in report.notes:
            say(note)
        say(_conclusion(report))
    if report.problems:
        raise typer.Exit(1)


def _conclusion(report: CheckReport) -> str:
    """The last line: complete if all splits have the official number of rows, otherwise how many there are."""
    n = len(report.problems)
    if n:
        return "1 problem" if n == 1 else f"{n} problems"
    if not report.partial:
        return "all files are present"
    parts = ", ".join(f"{s.name} {s.rows:,} of {s.official:,} rows" for s in report.partial)
    return f"the files present are valid, but parts of the benchmark are missing: {parts}"
