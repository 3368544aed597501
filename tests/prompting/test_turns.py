"""Prompts as conversations: what a turn may hold, how the chat protocol writes an episode, and its variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_eval import END_OF_CHUNK, Image, Prompt, Turn, load_model
from flamingo_eval.errors import ConfigError, PromptError
from flamingo_eval.prompting.answer_rules import short_answer
from flamingo_eval.prompting.prompts import render
from flamingo_eval.records import Episode, Example
from flamingo_eval.runs.questions import load_question

A, B = Image("a.png"), Image("b.png")


def example(id: str, picture: Image, question: str, answer: str = "") -> Example:
    return Example(id, (picture,), id, {"question": question}, answer)


def test_a_prompt_of_turns_knows_its_media_in_reading_order() -> None:
    prompt = Prompt([Turn("user", [A, "What?"]), Turn("assistant", "a kite"), Turn("user", [B, "And?"])], id="q")
    assert prompt.media == (A, B)
    assert prompt.parts == (A, "What?", "a kite", B, "And?")
    assert replace(prompt, common_prefix=True).turns == prompt.turns


def test_parts_and_turns_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="parts or turns"):
        Prompt([Turn("user", "a"), "b"])
    with pytest.raises(ValueError, match="role 'robot'"):
        Turn("robot", "a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="END_OF_CHUNK"):
        Turn("user", [END_OF_CHUNK])


def test_a_demonstration_is_a_user_and_an_assistant_turn() -> None:
    question = load_question("vqav2", "chat")
    episode = Episode(example("q", B, "What is it?"), (example("s", A, "And that?", "a kite"),))
    turns = render(episode, question.prompt, question.protocol).turns
    assert [t.role for t in turns] == ["user", "assistant", "user"]
    assert turns[0].parts[0] == A
    assert turns[1].parts == ("a kite",)
    assert turns[2].parts == (B, "What is it?\nGive a short answer, one or a few words.")


@pytest.mark.parametrize("variant", ["lmms-eval", "vlmevalkit"])
def test_a_variant_changes_the_instruction_and_the_protocols_name(variant: str) -> None:
    question = load_question("vqav2", f"chat:{variant}")
    prompt = render(Episode(example("q", A, "Who?"), ()), question.prompt, question.protocol)
    assert prompt.turns[-1].parts[1] == "Who?\nAnswer the question using a single word or phrase."
    assert question.protocol.name == f"chat:{variant}"
    assert load_question("visdial", f"chat:{variant}").protocol.name == question.protocol.name


def test_an_unknown_variant_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="lmms-eval, vlmevalkit"):
        load_question("vqav2", "chat:lmms")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A red kite.", "A red kite"),
        ("\n\n  two\nBecause there are two.", "two"),
        ('"snow"', "snow"),
        ("\u201csnow.\u201d", "snow"),
        ("U.S.A.", "U.S.A."),
        ("3.5", "3.5"),
        ("wait...", "wait..."),
        ("", ""),
    ],
)
def test_the_short_answer_is_the_first_line_without_quotes_and_full_stop(text: str, answer: str) -> None:
    assert short_answer(text) == answer


def test_a_model_without_a_chat_template_refuses_turns(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no chat template"):
        load_model("tiny").encode(Prompt([Turn("user", "Hello")]))
