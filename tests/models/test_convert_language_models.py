"""Every language model family against its implementation in transformers, through `convert` and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from flamingo_eval import Prompt
from flamingo_eval.api import load_flamingo_model
from flamingo_eval.models.convert.openflamingo import convert_openflamingo
from tests.support.language_families import FAMILIES, L, W, random_model
from tests.support.openflamingo_files import VOCABULARY, write_files
from tests.support.small_flamingo import picture

transformers = pytest.importorskip("transformers")

TEXT = "The quick brown fox, twice: \tfox!"


def files_of(folder: Path, name: str, model: nn.Module, **options: Any) -> Any:
    width = FAMILIES[name][1].get("d_model") or W
    return write_files(folder, model, FAMILIES[name][2], L, width, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    files = files_of(tmp_path, name, model)  # gates at 0: what is left is the language model
    convert_openflamingo(**files.arguments(), out=tmp_path / "out")
    ours = load_flamingo_model(tmp_path / "out")
    ids = torch.tensor([ours.encode(Prompt([TEXT])).ids])
    with torch.inference_mode():
        theirs = model(ids).logits[0]
    assert theirs.std() > 0.05
    assert_close(ours.logits(Prompt([TEXT])), theirs, atol=2e-5, rtol=1e-4)
    # with pictures too: closed gates show nothing of them, to the bit
    logits = ours.logits(Prompt([picture(0, size=8), TEXT]))
    hidden = ours.logits(Prompt([picture(1, size=8), TEXT]))
    assert torch.equal(logits, hidden)


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [256, VOCABULARY, VOCABULARY + 40])
@pytest.mark.parametrize("name", ["opt", "neox", "mpt"])
def test_vocabularies_grow_and_shrink(tmp_path: Path, name: str, vocabulary: int) -> None:
    model = random_model(name, vocabulary)
    files = files_of(tmp_path, name, model)
    assert convert_openflamingo(**files.arguments(), out=tmp_path / "out") == ()
    ours = load_flamingo_model(tmp_path / "out")
    ids = torch.tensor([ours.encode(Prompt([TEXT])).ids])
    with torch.inference_mode():
        assert_close(ours.logits(Prompt([TEXT])), model(ids).logits[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gptj"])
def test_head_rows_that_were_never_saved_never_win(tmp_path: Path, name: str) -> None:
    model = random_model(name, 256)
    base = model.get_output_embeddings().weight.detach().clone()
    files = files_of(tmp_path, name, model, save_head=False)
    (note,) = convert_openflamingo(**files.arguments(), out=tmp_path / "out")
    assert "from 256 on" in note
    assert note in (tmp_path / "out" / "README.md").read_text()
    ours = load_flamingo_model(tmp_path / "out")
    logits = ours.logits(Prompt([TEXT]))
    assert (logits[:, 256:] == -torch.inf).all()
    ids = torch.tensor([ours.encode(Prompt([TEXT])).ids])
    with torch.inference_mode():
        model.get_output_embeddings().weight[:256] = base
        assert_close(logits[:, :256], model(ids).logits[0, :, :256], atol=2e-5, rtol=1e-4)


def test_an_untied_head_that_shrinks_keeps_its_first_rows(tmp_path: Path) -> None:
    model = random_model("llama", VOCABULARY + 10)
    base = model.get_output_embeddings().weight.detach().clone()
    files = files_of(tmp_path, "llama", model, save_head=False)
    assert convert_openflamingo(**files.arguments(), out=tmp_path / "out") == ()
    ours = load_flamingo_model(tmp_path / "out")
    assert torch.equal(ours.flamingo.decoder.get_parameter("head.weight"), base[:VOCABULARY])


def test_embeddings_that_were_frozen_come_from_the_language_model(tmp_path: Path) -> None:
    model = random_model("gpt2", 256)
    base = model.get_input_embeddings().weight.detach().clone()
    files = files_of(tmp_path, "gpt2", model)
    files.state = {k: v for k, v in files.state.items() if "wte" not in k and "lm_head" not in k}
    files.rewrite()
    (note,) = convert_openflamingo(**files.arguments(), out=tmp_path / "out")
    assert "the last 3 are zero" in note
    weight = load_flamingo_model(tmp_path / "out").flamingo.decoder.embedding.weight
    assert torch.equal(weight[:256], base)
    assert not weight[256:].any()


@pytest.mark.parametrize("shards", [True, False])
def test_sharded_and_bare_language_models(tmp_path: Path, shards: bool) -> None:
    model = random_model("llama")
    files = files_of(tmp_path, "llama", model, **({"max_shard_size": "20KB"} if shards else {}))
    if shards:
        assert len(list((tmp_path / "lm").glob("*.safetensors"))) > 2
    convert_openflamingo(**files.arguments(), out=tmp_path / "out")
    ours = load_flamingo_model(tmp_path / "out")
    ids = torch.tensor([ours.encode(Prompt([TEXT])).ids])
    with torch.inference_mode():
        assert_close(ours.logits(Prompt([TEXT])), model(ids).logits[0], atol=2e-5, rtol=1e-4)
