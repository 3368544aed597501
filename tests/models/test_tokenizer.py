from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers

from flamingo_eval import END_OF_CHUNK, Prompt
from flamingo_eval.errors import CheckpointError, PromptError
from flamingo_eval.models.config import TokenConfig
from flamingo_eval.models.tokenizer import Tokenizer
from tests.support.small_flamingo import byte_tokenizer, picture

SPECIAL = TokenConfig(image_is_token=True)
A, B = picture(0), picture(1)


def special() -> Tokenizer:
    return Tokenizer(byte_tokenizer("<s>", "<image>", "<EOC>", begin="<s>"), SPECIAL, 259)


def plain() -> Tokenizer:
    """The paper's way: `<image>` is text of several sub-words, here `<`, `image`, `>`."""
    fast = FastTokenizer(models.WordLevel({"<": 0, "image": 1, ">": 2, "a": 3, "b": 4, "?": 5}, unk_token="?"))
    fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    fast.add_special_tokens(["<EOC>"])
    return Tokenizer(fast, TokenConfig(), 7)


def test_the_begin_token_is_the_tokenizers() -> None:
    encoded = special().encode(Prompt(["a"]))
    assert encoded.ids[0] == 256
    assert special().begin == "<s>"
    assert special().encode_text("a") == encoded.ids[1:]


def test_pictures_change_at_their_tag() -> None:
    encoded = special().encode(Prompt(["x", A, "y", END_OF_CHUNK, B, "z"]))
    assert encoded.image_of_token == (0, 0, 1, 1, 1, 2, 2)
    assert encoded.media == (A, B)


def test_pictures_change_at_a_tag_of_several_tokens() -> None:
    encoded = plain().encode(Prompt(["a ", A, "b", END_OF_CHUNK, B, " a"]))
    assert encoded.ids == (3, 0, 1, 2, 4, 6, 0, 1, 2, 3)
    assert encoded.image_of_token == (0, 1, 1, 1, 1, 1, 2, 2, 2, 2)


def test_a_token_that_reaches_into_the_tag_sees_its_picture() -> None:
    fast = FastTokenizer(models.BPE({c: i for i, c in enumerate("xy<image>")} | {"y<": 20}, [("y", "<")]))
    fast.add_special_tokens(["<EOC>"])
    encoded = Tokenizer(fast, TokenConfig(), 100).encode(Prompt(["xy", A]))
    assert encoded.image_of_token[:2] == (0, 1)


def test_ids_are_those_of_the_whole_string() -> None:
    tokenizer = special()
    prompt = Prompt(["He", "llo ", A, "wor", "ld", END_OF_CHUNK])
    assert list(tokenizer.encode(prompt).ids) == tokenizer.fast.encode("Hello <image>world<EOC>").ids
    assert tokenizer.text(prompt) == "Hello <image>world<EOC>"


def test_end_of_chunk_in_text_is_that_token() -> None:
    tokenizer = special()
    assert tokenizer.encode(Prompt(["a", "<EOC>"])).ids == tokenizer.encode(Prompt(["a", END_OF_CHUNK])).ids
    assert tokenizer.encode(Prompt(["a<EOC>b"])).ids[2] == 258


@pytest.mark.parametrize("make", [special, plain])
def test_an_image_tag_without_a_picture_is_an_error(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    with pytest.raises(PromptError, match=r"q3: the text contains '<image>', the tag of a picture: 'see <image>'"):
        tokenizer.encode(Prompt([A, "see <image>"], id="q3"))


def test_a_tag_made_of_two_parts_is_an_error_too() -> None:
    with pytest.raises(PromptError, match="2 image tags for 1 pictures"):
        special().encode(Prompt([A, "<ima", "ge>"]))


def test_marks_around_runs_of_pictures() -> None:
    config = dataclasses.replace(SPECIAL, around_image="<f>")
    tokenizer = Tokenizer(byte_tokenizer("<image>", "<EOC>", "<f>"), config, 259)
    assert tokenizer.text(Prompt(["a", A, B, "b", A])) == "a<f><image><f><image><f>b<f><image><f>"
    assert tokenizer.encode(Prompt(["a", A, B])).image_of_token == (0, 0, 1, 1, 2, 2)


def test_text_is_cut_at_the_first_stop_and_without_special_tokens() -> None:
    tokenizer = special()
    a, b = tokenizer.encode_text("a")[0], tokenizer.encode_text("b")[0]
    assert tokenizer.decode([a, 256, b, 258, a]) == "ab"
    assert tokenizer.decode([258, a]) == ""


@pytest.mark.parametrize(("clean", "text"), [(True, "it's a dog, no. don't"), (False, "it 's a dog , no . do n't")])
def test_spaces_before_punctuation(clean: bool, text: str) -> None:
    tokenizer = Tokenizer(byte_tokenizer("<image>", "<EOC>"), dataclasses.replace(SPECIAL, clean_up_spaces=clean), 258)
    assert tokenizer.decode(tokenizer.encode_text("it 's a dog , no . do n't")) == text


def test_tokens_that_are_missing_or_beyond_the_embeddings() -> None:
    with pytest.raises(CheckpointError) as caught:
        Tokenizer(byte_tokenizer("<EOC>"), SPECIAL, 200, "folder/tokenizer.json")
    assert "folder/tokenizer.json: 2 problems" in str(caught.value)
    assert "token '<image>' is missing" in str(caught.value)
    assert "'<EOC>' has id 256, the model has 200 embeddings" in str(caught.value)
