from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from flamingo_eval.api import Model
from flamingo_eval.config.specs import DecodeSpec
from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.records import END_OF_CHUNK, Pixels, Prompt
from flamingo_eval.training import language_stage
from flamingo_eval.training.batches import Collator
from flamingo_eval.training.flamingo_stage import features_of, flamingo_logits, new_blocks, weights_sha256
from flamingo_eval.training.language_stage import CHECKED, new_decoder
from flamingo_eval.training.recipe import load_recipe
from flamingo_eval.training.sample_episodes import Chunk
from flamingo_eval.training.trainer import recipe_config, train_recipe
from flamingo_eval.training.vocabulary import make_tokenizer

FEW_EPISODES = 5  # of each task, read at the end of stage 2


def test_at_zero_gates_the_flamingo_is_its_language_model() -> None:
    recipe = load_recipe("tiny")
    collate = Collator(make_tokenizer())
    flamingo = Flamingo(recipe_config(recipe))
    flamingo.decoder.load_state_dict(new_decoder(flamingo.config.decoder, collate, 0).state_dict())
    new_blocks(flamingo, recipe.flamingo.gate, 0)
    batch = collate([[Chunk(0, "Output:", "dax"), Chunk(1, "Output:", "wug")]], 0.0, in_words=False)
    pictures = torch.randn(2, 1, flamingo.config.vision.positions, flamingo.config.vision.width)
    with torch.inference_mode():
        logits = flamingo_logits(flamingo, features_of(batch, pictures), batch.tokens, batch.image_of_token)
        assert torch.equal(logits, flamingo.decoder(batch.tokens))


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `tiny --smoke`."""
    out = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_stage, "CHECKED_EPISODES", FEW_EPISODES)
        train_recipe(load_recipe("tiny").smoke(), out, "cpu", Console(file=io.StringIO()))
    return out


def losses(run: Path, stage: str) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / f"{stage}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_smoke_training_runs_all_stages_and_losses_fall(smoke_run: Path) -> None:
    for stage in ("contrastive", "language", "flamingo"):
        assert losses(smoke_run, stage)[-1] < losses(smoke_run, stage)[0], stage
    shares = json.loads((smoke_run / "language-check.json").read_text())
    assert set(shares) == set(CHECKED)
    assert all(0 <= share <= 1 for share in shares.values())
    model = Model.load(smoke_run / "checkpoint")
    picture = Pixels(torch.zeros(3, 64, 64))
    prompt = Prompt([picture, "Output: dax", END_OF_CHUNK, picture, "Output:"])
    assert isinstance(model.generate([prompt], DecodeSpec(beams=1, max_new_tokens=3))[0], str)
    state = torch.load(smoke_run / "language.pt", weights_only=True)["modules"]["decoder"]
    kept = {k.removeprefix("decoder."): v for k, v in model.flamingo.state_dict().items() if k.startswith("decoder.")}
    assert all(torch.equal(kept[k], v.half().float()) for k, v in state.items())  # frozen in stage 3
    with pytest.raises(CheckpointError, match="another recipe"):
        train_recipe(replace(load_recipe("tiny").smoke(), seed=7), smoke_run, "cpu", Console(file=io.StringIO()))


@pytest.mark.slow
def test_the_third_stage_alone_is_built_on_the_frozen_parts_of_another_checkpoint(
    smoke_run: Path, tmp_path: Path
) -> None:
    frozen_model = Model.load(smoke_run / "checkpoint")
    recipe = load_recipe("tiny-pooled").smoke()
    model = Model.load(train_recipe(recipe, tmp_path, "cpu", Console(file=io.StringIO()), frozen_model))
    assert losses(tmp_path, "flamingo")[-1] < losses(tmp_path, "flamingo")[0]
    assert not (tmp_path / "contrastive.jsonl").exists()
    frozen = {k: v for k, v in frozen_model.flamingo.state_dict().items() if k.startswith(("vision.", "decoder."))}
    assert all(torch.equal(model.flamingo.state_dict()[k], v) for k, v in frozen.items())
    assert frozen_model.sha256 in (tmp_path / "checkpoint" / "README.md").read_text()
    with pytest.raises(CheckpointError, match="another encoder and decoder"):  # the same folder, with its own
        train_recipe(recipe, tmp_path, "cpu", Console(file=io.StringIO()))
    with pytest.raises(CheckpointError, match="another vision encoder, another language model"):
        train_recipe(load_recipe("base").smoke(), tmp_path / "base", "cpu", Console(file=io.StringIO()), frozen_model)
    assert not (tmp_path / "base").exists()


def test_weight_hashes_see_every_change() -> None:
    module = torch.nn.Linear(2, 2)
    before = weights_sha256([module])
    assert weights_sha256([module]) == before
    with torch.no_grad():
        module.bias[0] += 1e-6
    assert weights_sha256([module]) != before
