"""prompts.py: the exact strings of the protocols, and templates that can do nothing else."""

from __future__ import annotations

import pytest

from flamingo_eval.config.specs import CleanSpec, PromptSpec, ProtocolSpec
from flamingo_eval.errors import PromptError
from flamingo_eval.prompting.prompts import IMAGE_MARK, candidate_text, clean, render, shown
from flamingo_eval.records import END_OF_CHUNK, Episode, Example, Image, Prompt
from flamingo_eval.runs.questions import load_question

PROTOCOL = ProtocolSpec("p", "P", begin="<BOS>")
SPEC = PromptSpec("s", "{{ image }}Q {{ question }} A {{ answer }}{{ end_of_chunk }}", "{{ image }}Q {{ question }} A")


def example(n: int, **fields: object) -> Example:
    return Example(str(n), (Image(f"{n}.jpg"),), str(n), {"question": f"q{n}?", **fields}, answer=f"a{n}")


def text(task: str, protocol: str, shots: int, text_only: bool = False) -> str:
    question = load_question(task, protocol)
    episode = Episode(example(0), tuple(example(n) for n in range(1, shots + 1)), text_only)
    return shown(render(episode, question.prompt, question.protocol), question.protocol)


def test_flamingo_vqa() -> None:
    assert text("vqav2", "flamingo", 2) == (
        "<BOS><image>Question: q1? Answer: a1<EOC><image>Question: q2? Answer: a2<EOC><image>Question: q0? Answer:"
    )


def test_flamingo_captions() -> None:
    assert text("coco", "flamingo", 1) == "<BOS><image>Output: a1<EOC><image>Output:"


def test_zero_shots_are_demonstrations_without_pictures_and_tags() -> None:
    """Flamingo v2 A.2: text and end of chunk stay."""
    assert text("coco", "flamingo", 2, text_only=True) == "<BOS>Output: a1<EOC>Output: a2<EOC><image>Output:"


def test_openflamingo() -> None:
    assert text("vqav2", "openflamingo", 1) == (
        "<image>Question:q1? Short answer:a1<|endofchunk|>\n<image>Question:q0? Short answer:"
    )
    assert text("coco", "openflamingo", 1) == "<image>Output:a1<|endofchunk|>\n<image>Output:"


def test_idefics() -> None:
    assert text("vqav2", "idefics", 1) == (
        "<s>Instruction: provide an answer to the question. Use the image to answer.\n"
        "Image:<image>Question: q1? Answer: a1\nImage:<image>Question: q0? Answer:"
    )


def test_parts_interleave_media_and_text() -> None:
    prompt = render(Episode(example(0), (example(1),)), SPEC, PROTOCOL)
    assert prompt.parts == (Image("1.jpg"), "Q q1? A a1", END_OF_CHUNK, Image("0.jpg"), "Q q0? A")
    assert prompt.media == (Image("1.jpg"), Image("0.jpg"))
    assert prompt.id == "0"


def test_neighbouring_texts_are_one_part() -> None:
    no_pictures = Example("0", (), "0", {"question": "q"})
    prompt = render(Episode(no_pictures, ()), PromptSpec("s", "", "{{ image }}Q", prefix="P "), PROTOCOL)
    assert prompt.parts == ("P Q",)


@pytest.mark.parametrize("word", ["<image>", "<EOC>", IMAGE_MARK])
def test_a_mark_in_the_data_is_an_error_not_a_mark(word: str) -> None:
    with pytest.raises(PromptError, match="reserved text"):
        render(Episode(example(0, question=f"what is {word}"), ()), SPEC, PROTOCOL)
    shot = Example("1", (Image("1.jpg"),), "1", {"question": "q"}, answer=word)
    with pytest.raises(PromptError, match="example 1: answer contains"):
        render(Episode(example(0), (shot,)), SPEC, PROTOCOL)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(PromptError, match=r"prompt 's', query, example 0: 'text' is undefined") as caught:
        render(Episode(example(0), ()), PromptSpec("s", "", "{{ text }}"), PROTOCOL)
    assert "Known here: end_of_chunk, image, question" in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ question.__init__.__globals__ }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ lipsum(1000) }}",
        "{{ cycler.__init__ }}",
        "{% include '/etc/passwd' %}",
        "{{ open('/etc/passwd').read() }}",
        "{{ 'x' * 10 ** 12 }}",
        "{% if %}",
        "{{ 1e999 if question else '' }}",
        "{{ image }}{{ image }}",
    ],
)
def test_templates_can_run_nothing(template: str) -> None:
    with pytest.raises(PromptError):
        render(Episode(example(0), ()), PromptSpec("s", "", template), PROTOCOL)


def test_markup_in_data_is_not_a_template() -> None:
    prompt = render(Episode(example(0, question="{{ answer }}"), ()), SPEC, PROTOCOL)
    assert prompt.parts[1] == "Q {{ answer }} A"


def test_candidates() -> None:
    assert candidate_text("a cat", PromptSpec("s", "", "", candidate=" {{ candidate }}")) == " a cat"


def test_cleaning_cuts_in_order() -> None:
    spec = CleanSpec(cut_at=("Question", "Answer"), cut_at_after=(", ",), delete=('"',))
    assert clean(' a "cat", x Answer: b Question', spec) == "a cat"
    assert clean(" a ", CleanSpec(strip=False)) == " a "


def test_shown_writes_the_protocols_marks() -> None:
    assert shown(Prompt([Image("a"), "x", END_OF_CHUNK]), PROTOCOL) == "<BOS><image>x<EOC>"


def test_openflamingo_strips_the_captions_of_demonstrations_and_nothing_else() -> None:
    """Real captions end in blanks and new lines; OpenFlamingo's evaluation strips those, and no question or answer."""

    def shown_as(task: str, query: Example, shot: Example) -> str:
        question = load_question(task, "openflamingo")
        return shown(render(Episode(query, (shot,), False), question.prompt, question.protocol), question.protocol)

    shot = Example("1", (), "1", answer=" A bus\nparked \r\n")
    assert shown_as("coco", Example("2", (), "2"), shot) == "Output:A bus\nparked<|endofchunk|>\nOutput:"
    shot = Example("1", (), "1", fields={"question": "where? "}, answer=" here ")
    assert shown_as("vqav2", Example("2", (), "2", fields={"question": "what ?"}), shot) == (
        "Question:where?  Short answer: here <|endofchunk|>\nQuestion:what ? Short answer:"
    )
