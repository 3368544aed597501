"""The RunSpec of a VQAv2 run, as the command line would make it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import find_protocol, shipped
from flamingo_eval.config.protocols import load_protocol
from flamingo_eval.config.specs import DemoSpec, RunSpec
from flamingo_eval.data.task_file import load_task


def vqa_spec(demos: DemoSpec, **changes: Any) -> RunSpec:
    """VQAv2 in the prompts of the paper, model `m`; `changes` are fields of RunSpec."""
    folder = find_protocol("flamingo")
    spec = RunSpec(
        task=load_task(shipped("tasks") / "vqav2.yaml"),
        protocol=load_protocol(folder / "protocol.yaml"),
        prompt=load_prompt(folder / "qa.yaml"),
        demos=demos,
        model="m",
        model_sha256="0",
        data="vqa",
        split="val",
    )
    return replace(spec, **changes)
