"""flamingo-eval check: is a download complete and readable?"""

from __future__ import annotations

import typer

from flamingo_eval.cli.options import Data, Images, Json, Split, Task


def check(
    task: Task,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    as_json: Json = False,
) -> None:
    """Count a task's rows beside the official numbers, and name what is missing, cut or of the wrong split.

    Exit code 1 when something is wrong.
    """
    import dataclasses

    from flamingo_eval.cli.console import ProgressBar, print_json, print_table, say
    from flamingo_eval.config.names import find_task
    from flamingo_eval.config.settings import data_choice, image_folders
    from flamingo_eval.data.check import check_task
    from flamingo_eval.data.roots import data_root
    from flamingo_eval.data.task_file import load_task

    spec = load_task(find_task(task))
    root = data_root(data_choice(data), spec.name, image_folders(images))
    with ProgressBar(f"{spec.name}: reading media", 0, quiet=as_json) as bar:

        def watch(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        report = check_task(spec, root, split, on_progress=watch)
    if as_json:
        value = dataclasses.asdict(report)
        value["problems"] = [str(p) for p in report.problems]
        print_json({**value, "ok": not report.problems})
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
        n = len(report.problems)
        say("everything is there" if not n else "1 problem" if n == 1 else f"{n} problems")
    if report.problems:
        raise typer.Exit(1)
