"""Why a run is new although a similar one lies beside it, and which pictures changed since a run: one line each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flamingo_eval.errors import RunError
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.identity import explain, family, in_words
from flamingo_eval.runs.record import RunRecord, read_run

MOST_NAMED = 3  # pictures in a sentence


def why_new(folder: RunFolder, record: RunRecord) -> str:
    """What a run that is about to start has otherwise than the most similar one beside it; "" if there is none."""
    same_name = re.compile(re.escape(family(record.spec)) + r"-[0-9a-f]{8}")
    similar = []
    for path in sorted(folder.path.parent.iterdir()):
        if path == folder.path or not same_name.fullmatch(path.name):
            continue
        try:
            similar.append((explain(read_run(RunFolder(path).run), record), path.name))
        except RunError:
            continue  # damaged, or of a version to come: nothing to compare with
    if not similar:
        return ""
    differences, name = min(similar, key=lambda candidate: len(candidate[0]))
    if not differences:
        return f"new run: {name} is of an earlier version of flamingo-eval"
    return f"new run, not {name}: {in_words(differences)} differ{'s' if len(differences) == 1 else ''}"


def changed_sentence(names: Sequence[str]) -> str:
    """`2 pictures or clips have changed since they were answered: a.jpg, b.jpg.` and what to do; "" for none."""
    if not names:
        return ""
    count = "1 picture or clip has" if len(names) == 1 else f"{len(names)} pictures or clips have"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    names_text = ", ".join(names[:MOST_NAMED])
    return f"{count} changed since this run used them: {names_text}{more}. Run it again with --fresh."
