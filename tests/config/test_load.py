"""config/load.py: every problem of a YAML file, with its line, key, value and the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from flamingo_eval.config.load import load_prompt, load_spec
from flamingo_eval.config.names import find_protocol, find_task, protocol_names, task_names
from flamingo_eval.config.protocols import find_prompt, load_protocol
from flamingo_eval.config.specs import CleanSpec, DecodeSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import ConfigError

TASK = """\
name: mine
title: My task
modality: image
mode: open-ended
prompt: qa
data:
  layout: vqa
  query: val
  support: null
  splits:
    val:
      questions: q.json
metrics: [vqa_accuracy]
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_task(path)
    assert str(path) in str(caught.value)
    return [str(p) for p in caught.value.problems]


def test_a_task_reads_into_its_spec(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK)
    task = load_task(path)
    assert task.prompt == ("qa",)
    assert task.metrics[0].name == "vqa_accuracy"
    assert task.data.support is None
    assert task.data.splits["val"]["questions"] == ("q.json",)
    assert task.decode == DecodeSpec()


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = TASK.replace("modality: image", "modality: imagee").replace(
        "metrics: [vqa_accuracy]", "metrics: [vqa_acuracy]"
    )
    messages = problems(tmp_path, text + "decode: {max_tokens: 5, beams: three}\nfoo: 1\n")
    assert messages == [
        "line 3, modality: expected one of image, video, got 'imagee'. Did you mean 'image'?",
        "line 13, metrics[0].name: unknown metric 'vqa_acuracy'. Did you mean 'vqa_accuracy'?",
        "line 14, decode: unknown key 'max_tokens'. Did you mean 'max_new_tokens'?",
        "line 14, decode.beams: expected an integer, got 'three'.",
        "line 15, file: unknown key 'foo'. Keys here: data, decode, max_shots, metrics, modality, mode, name, notes, "
        "prompt, protocols, rank, support_per_class, support_size, title.",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("title: My task\n", ""), "line 1, file: key 'title' is missing."),
        (("title: My task", "title: [a, b]"), "line 2, title: expected a text, got a list."),
        (("title: My task", "title: x\ntitle: y"), "line 3, file: duplicate key 'title'."),
        (("layout: vqa", "layout: vqaa"), "line 7, data.layout: unknown layout 'vqaa'. Did you mean 'vqa'?"),
        (("metrics: [vqa_accuracy]", "metrics: vqa_accuracy: x"), None),
        (("support: null", "support: {}"), "line 9, data.support: expected a text, got keys and values."),
    ],
)
def test_each_kind_of_problem(tmp_path: Path, change: tuple[str, str], line: str | None) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_task(path)
    if line is None:
        assert "line 13" in str(caught.value)
    else:
        assert line in [str(p) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"a: [1, 2", "line 1, column 9: not YAML"),
        (b"\xff\xfea", "not UTF-8 text (byte 0)"),
        (b"a: " + b"[" * 5000, "not YAML"),
        (b"x" * (4 * 2**20 + 1), "too many for this file"),
        (b"&a [*a]", "expected keys and values, got a list"),
        (b"!!python/object/apply:os.system ['true']", "expected keys and values, got a list"),
    ],
    ids=["empty", "cut", "not-utf8", "deep", "huge", "alias", "python-tag"],
)
def test_files_that_are_no_settings(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"task\.yaml") as caught:
        load_task(path)
    assert what in str(caught.value)


def test_an_alias_to_itself_ends(tmp_path: Path) -> None:
    messages = problems(tmp_path, TASK.replace("      questions: q.json", "      questions: &q [*q]"))
    assert messages == ["line 12, data.splits.val.questions[0]: refers to itself."]


def test_words_stay_words(tmp_path: Path) -> None:
    """YAML 1.1 reads no, on and 1 as False, True and a number; a text is a text here."""
    path = tmp_path / "clean.yaml"
    path.write_text("cut_at: [no, 1, on]\nstrip: off\n")
    assert load_spec(path, CleanSpec) == CleanSpec(cut_at=("no", "1", "on"), strip=False)


def test_a_value_that_the_spec_refuses_is_a_problem_of_its_place(tmp_path: Path) -> None:
    assert problems(tmp_path, TASK + "decode: {beams: 0}\n") == [
        "line 14, decode: beams and max_new_tokens must be at least 1."
    ]


@pytest.mark.parametrize("name", task_names())
def test_every_shipped_task_reads(name: str) -> None:
    task = load_task(find_task(name))
    assert task.name == name
    assert task.data.query in task.data.splits
    assert task.data.support is None or task.data.support in task.data.splits
    find_prompt(find_protocol("flamingo"), task.prompt)


@pytest.mark.parametrize("protocol", protocol_names())
def test_every_shipped_prompt_reads(protocol: str) -> None:
    folder = find_protocol(protocol)
    assert load_protocol(folder / "protocol.yaml").name == protocol
    for path in sorted(folder.glob("*.yaml")):
        if path.stem != "protocol":
            assert load_prompt(path).name == path.stem


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'vqav2'"):
        find_task("vqav3")
    with pytest.raises(ConfigError, match="no such file"):
        find_task("./nothing.yaml")
    with pytest.raises(ConfigError, match="Did you mean 'openflamingo'"):
        find_protocol("openflamingoo")
    with pytest.raises(ConfigError, match="has no prompt 'qaa'"):
        find_prompt(find_protocol("flamingo"), ("qaa",))
