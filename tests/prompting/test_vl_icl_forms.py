"""The forms of VL-ICL's prompts: text with tags, one user turn, turns; three instructions; zero shots bare."""

from __future__ import annotations

import pytest

from flamingo_eval.errors import ConfigError
from flamingo_eval.prompting.prompts import render, shown
from flamingo_eval.records import Episode, Example, Image, Prompt
from flamingo_eval.runs.questions import load_question

CONCISE = "Answer the question with a single word or phase."
DETAILED = f"Induce the concept from the in-context examples. {CONCISE}"
PAIR = "Induce the mathematical operator between the two images and calculate the result."


def row(id: str, answer: str, pictures: int = 1, question: str = "This is a") -> Example:
    media = tuple(Image(f"{id}{i}.jpg") for i in range(pictures))
    return Example(id, media, id, fields={"question": question}, answer=answer)


OPEN = Episode(row("q", "dax"), (row("a", "slation"), row("b", "dax")))
TWO = Episode(row("q", "8", 2, "What?"), (row("a", "7", 2, "What?"),))


def prompt(episode: Episode, protocol: str, task: str = "vl_icl_open_mi") -> Prompt:
    question = load_question(task, protocol)
    return render(episode, question.prompt, question.protocol)


def text(episode: Episode, protocol: str, task: str = "vl_icl_open_mi") -> str:
    return shown(prompt(episode, protocol, task), load_question(task, protocol).protocol)


def test_the_interleaved_form_of_the_released_code() -> None:
    assert text(OPEN, "vl_icl:concise") == (
        f"{CONCISE}\n<image>This is a\nAnswer: slation<|endofchunk|><image>This is a\nAnswer: dax<|endofchunk|>"
        "<image>This is a\nAnswer:"
    )
    assert text(OPEN, "vl_icl").startswith(f"{DETAILED}\n<image>")


def test_without_an_instruction_the_newline_stays() -> None:
    assert text(OPEN, "vl_icl:nothing").startswith("\n<image>This is a")


def test_two_pictures_are_two_tags_in_a_row() -> None:
    task = "vl_icl_operator_induction_interleaved"
    shot = "<image><image>What?\nAnswer: 7<|endofchunk|>"
    assert text(TWO, "vl_icl:concise", task) == f"{PAIR}\n{shot}<image><image>What?\nAnswer:"


def test_zero_shots_are_bare() -> None:
    for protocol in ("vl_icl", "vl_icl_idefics", "vl_icl_turn", "vl_icl_turns"):
        assert load_question("vl_icl_open_mi", protocol).prompt.text_only_shots == 0
    assert text(Episode(OPEN.query, ()), "vl_icl:concise") == f"{CONCISE}\n<image>This is a\nAnswer:"


def test_the_form_for_idefics() -> None:
    assert text(Episode(OPEN.query, OPEN.shots[:1]), "vl_icl_idefics:concise") == (
        f"<s>You are a helpful assistant.\n{CONCISE}\n<image>\nUser: This is a\nAssistant: slation\n"
        "<image>\nUser: This is a\nAssistant:"
    )


def test_one_user_turn_has_a_line_a_picture() -> None:
    task = "vl_icl_operator_induction_interleaved"
    (turn,) = prompt(TWO, "vl_icl_turn:concise", task).turns
    written = "".join(p if isinstance(p, str) else "<image>" for p in turn.parts)
    assert turn.role == "user"
    assert written == f"{PAIR}\n<image>\n<image>\nWhat?\nAnswer: 7\n<image>\n<image>\nWhat?\nAnswer:"


def test_turns_have_the_instruction_in_the_system_turn() -> None:
    turns = prompt(OPEN, "vl_icl_turns:concise").turns
    assert [t.role for t in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[0].parts == (f"You are a helpful assistant. {CONCISE}",)
    assert turns[2].parts == ("slation",)


def test_an_instruction_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no variant 'consise'\. Did you mean 'concise'"):
        load_question("vl_icl_open_mi", "vl_icl:consise")
