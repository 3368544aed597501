"""flamingo-eval show RUN --id ID: one query of a finished run, with its prompt and answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def show_run(folder: Path, id: str | None, data: str | None, as_json: bool, images: tuple[str, ...] = ()) -> None:
    """Print the prompt, the answer, the references and the score of a query.

    The prompt is rendered again from the record and the data, also for RICES runs. It is not printed if the data or the
    shots differ from the record. Raises RunError for an unknown id.
    """
    from flamingo_eval.cli.console import print_json, say
    from flamingo_eval.errors import FlamingoEvalError, RunError, UsageError, did_you_mean
    from flamingo_eval.prompting.prompts import shown
    from flamingo_eval.records import Prediction
    from flamingo_eval.report.diff import one_run
    from flamingo_eval.report.recorded_prompts import TaskPrompts, read_runs
    from flamingo_eval.runs.recorded import recorded_data

    (run,) = read_runs([one_run(folder)])
    if id is None:
        raise UsageError(
            f"{folder} is a run: which query?", fix=f"Give --id, for example --id {next(iter(run.outputs))}."
        )
    output = run.outputs.get(id)
    if output is None:
        raise RunError(f"{folder}: no query '{id}'. {did_you_mean(id, run.outputs)}".rstrip())
    try:
        prompts: TaskPrompts | None = TaskPrompts(recorded_data(run.record, data, images))
        reason = ""
    except FlamingoEvalError as error:
        prompts, reason = None, str(error)
    example = prompts.queries(run).get(id) if prompts else None
    prompt = None
    if prompts is not None:
        prompt, reason = prompts.prompt(run, id)
    text = shown(prompt, run.spec.protocol) if prompt else None
    media = [str(getattr(m, "path", m)) for m in prompt.media] if prompt else []
    references = list(dict.fromkeys(example.references)) if example else []
    names = (example.candidates or prompts.data.queries.candidates) if example and prompts else ()
    best_index = Prediction.of(output).chosen
    answer = output.prediction
    if best_index is not None:
        answer = names[best_index] if best_index < len(names) else f"candidate {best_index}"
    target = names[example.target] if example and example.target is not None and example.target < len(names) else None
    value: dict[str, Any] = {
        "id": id,
        "task": run.spec.task_label,
        "model": run.spec.model,
        "shots": list(output.shots),
        "prompt": text,
        "why_no_prompt": reason,
        "media": media,
        "answer": answer,
        "raw": output.raw,
        "references": references,
        "target": target,
        "score": output.score,
        "error": output.error,
    }
    if as_json:
        print_json(value)
        return
    if text is not None:
        print(text)
    else:
        say(f"the prompt cannot be shown: {reason}")
    for i, path in enumerate(media, 1):
        say(f"  <image> {i}: {path}")
    say(f"query {id} of {run.spec.task_label}, {run.spec.model}, shots {', '.join(output.shots) or 'none'}")
    print(f"answer: {answer}" if not output.error else f"failed: {output.error}")
    if output.raw is not None and output.raw.strip() != (output.prediction or ""):
        print(f"as generated: {output.raw!r}")
    if references or target is not None:
        print(f"references: {'; '.join(references) if references else target}")
    print(f"score: {'none of its own' if output.score is None else f'{output.score:.2f}'}")
