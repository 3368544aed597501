from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.convert.hf_tokenizer import cleans_up_spaces, read_vocabulary
from tests.support.small_flamingo import byte_tokenizer

ADDED = {"</s>": 256, "<|endofchunk|>": 257, "<image>": 258}


def write_old_files(folder: Path, added: dict[str, int] = ADDED) -> None:
    """vocab.json and merges.txt, as facebook/opt-* are published, with OpenFlamingo's tokens added."""
    vocabulary = json.loads(byte_tokenizer().to_str())["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "</s>"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": "</s>"}))


def test_old_files_of_gpt2_and_opt(tmp_path: Path) -> None:
    write_old_files(tmp_path)
    fast, settings = read_vocabulary(tmp_path, ("<image>", "<|endofchunk|>"))
    ids = fast.encode("<image>ab<|endofchunk|>").ids
    assert (ids[0], ids[1], ids[-1], len(ids)) == (256, 258, 257, 5)
    assert settings["add_bos_token"]


def test_added_tokens_that_do_not_follow(tmp_path: Path) -> None:
    write_old_files(tmp_path, {"</s>": 256, "<image>": 300})
    with pytest.raises(CheckpointError, match=r"ids of <image> do not follow"):
        read_vocabulary(tmp_path, ())


def test_the_begin_token_is_added_only_where_the_tokenizer_lacks_it(tmp_path: Path) -> None:
    byte_tokenizer("<s>", begin="<s>").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": "<s>"}))
    assert read_vocabulary(tmp_path, ())[0].encode("a").ids[:-1] == [256]
    byte_tokenizer("<s>").save(str(tmp_path / "tokenizer.json"))
    assert read_vocabulary(tmp_path, ())[0].encode("a").ids[:-1] == [256]
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_vocabulary(tmp_path, ())[0].encode("a").ids[:-1] == []


def test_a_misspelt_token_has_a_suggestion(tmp_path: Path) -> None:
    byte_tokenizer("<|endofchunk|>", "<image>").save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"'<images>' is missing. Did you mean '<image>'"):
        read_vocabulary(tmp_path, ("<images>",))


def test_a_tokenizer_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(CheckpointError, match=r"not a tokenizer.json"):
        read_vocabulary(tmp_path, ())


def test_a_template_of_a_token_that_it_does_not_have_is_found_at_loading(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer("<s>")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    text = tokenizer.to_str().replace('"SpecialToken":{"id":"<s>"', '"SpecialToken":{"id":"</s>"')
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"not a tokenizer.json: no entry"):
        read_vocabulary(tmp_path, ())


@pytest.mark.parametrize(
    ("settings", "cleans_up"),
    [
        ({"tokenizer_class": "LlamaTokenizer"}, False),
        ({"tokenizer_class": "LlamaTokenizerFast"}, False),
        ({"tokenizer_class": "LlamaTokenizer", "clean_up_tokenization_spaces": True}, True),
        ({"tokenizer_class": "GPTNeoXTokenizer"}, True),
        ({"tokenizer_class": "GPTNeoXTokenizer", "clean_up_tokenization_spaces": False}, False),
        ({}, True),
    ],
)
def test_spaces_are_cleaned_up_where_the_class_does_so(settings: dict[str, object], cleans_up: bool) -> None:
    assert cleans_up_spaces(settings, default=True) is cleans_up
