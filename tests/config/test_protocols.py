"""Folders of prompts: what extends what, whose file counts, and what is said of folders that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import find_protocol
from flamingo_eval.config.protocols import find_prompt, load_protocol, protocol_chain
from flamingo_eval.errors import ConfigError
from flamingo_eval.runs.questions import load_questions

QA = 'demonstration: "{{ image }}Q: {{ question }} A: {{ answer }}"\nquery: "{{ image }}Q: {{ question }} A:"\n'


def folder(path: Path, protocol: str = "extends: flamingo\n", **prompts: str) -> Path:
    path.mkdir(parents=True)
    (path / "protocol.yaml").write_text(protocol, encoding="utf-8")
    for name, text in prompts.items():
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return path


def test_a_folder_with_what_differs_has_the_rest_from_the_other(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", qa=QA)
    flamingo = find_protocol("flamingo")
    assert find_prompt(mine, ["qa"]) == mine / "qa.yaml"
    assert find_prompt(mine, ["caption"]) == flamingo / "caption.yaml"
    protocol, other = load_protocol(mine / "protocol.yaml"), load_protocol(flamingo / "protocol.yaml")
    assert (protocol.name, protocol.begin, protocol.end_of_chunk) == ("mine", other.begin, other.end_of_chunk)
    assert load_prompt(mine / "qa.yaml").name == "qa"


def test_keys_of_ones_own_replace_those_of_the_extended_one(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", 'extends: flamingo\nname: other\nend_of_chunk: "##"\n')
    protocol = load_protocol(mine / "protocol.yaml")
    assert (protocol.name, protocol.end_of_chunk, protocol.begin) == ("mine", "##", "<BOS>")


def test_a_folder_may_extend_one_of_ones_own(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", qa=QA)
    second = folder(tmp_path / "second", "extends: ../first\n", caption=QA)
    assert [f.resolve() for f in protocol_chain(second)] == [second, first, find_protocol("flamingo").resolve()]
    assert find_prompt(second, ["qa"]).resolve() == first / "qa.yaml"


def test_a_folder_of_a_shipped_name_may_extend_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = folder(tmp_path / "prompts" / "flamingo", qa=QA)
    monkeypatch.chdir(tmp_path)
    assert find_protocol("flamingo").resolve() == mine
    assert len(protocol_chain(find_protocol("flamingo"))) == 2


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("extends: flamngo\n", "line 1, extends: unknown protocol 'flamngo'. Did you mean 'flamingo'?"),
        ("extends: ../mine\n", "a protocol cannot extend itself"),
        ("extends: [a]\n", "line 1, extends: expected the name of a protocol, got a list."),
        ("extends: ../nothing\n", "there is no such folder"),
        ("extends: flamingo\nextends: chat\n", "line 2, extends: duplicate key 'extends'."),
        ("extends: flamingo\nbegn: x\n", "line 2, file: unknown key 'begn'. Did you mean 'begin'?"),
        ("title: mine\nstyle: talk\n", "style: expected one of chat, interleaved, one-turn, got 'talk'."),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, protocol: str, message: str) -> None:
    mine = folder(tmp_path / "mine", protocol)
    with pytest.raises(ConfigError) as caught:
        load_protocol(mine / "protocol.yaml")
    assert message in str(caught.value)


def test_a_folder_that_is_no_protocol_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match=r"mine: protocol\.yaml is missing\.\n.*extends: flamingo"):
        find_protocol(str(tmp_path / "mine"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        find_protocol(str(tmp_path / "other"))
    (tmp_path / "mine" / "qa.yaml").write_text(QA)
    with pytest.raises(ConfigError, match=r"expected a folder, got a file\.\nGive its folder: .*mine\."):
        find_protocol(str(tmp_path / "mine" / "qa.yaml"))


def test_it_is_said_which_file_asks_which_task_and_which_none(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", qa=QA, qaa=QA)
    _, remarks = load_questions(["vqav2", "coco"], str(mine))
    assert remarks == [
        "protocol mine extends flamingo: vqav2 asked by mine/qa.yaml; coco asked by flamingo/caption.yaml",
        "mine/qaa.yaml is not used by these tasks",
    ]


def test_a_folder_whose_name_is_no_utf_8_has_a_name_that_can_be_written(tmp_path: Path) -> None:
    mine = folder(tmp_path / os.fsdecode(b"m\xff"), qa=QA)
    assert load_protocol(mine / "protocol.yaml").name == "m\\udcff"
