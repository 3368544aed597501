from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models import Model
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.records import END_OF_CHUNK, Pixels, Prompt
from flamingo_eval.specs import DecodeSpec
from flamingo_eval.training.batches import Collator
from flamingo_eval.training.flamingo import features_of, flamingo_logits, new_blocks, weights_sha256
from flamingo_eval.training.language import CHECKED, new_decoder
from flamingo_eval.training.mixture import Chunk
from flamingo_eval.training.recipe import load_recipe
from flamingo_eval.training.run import recipe_config, train_recipe
from flamingo_eval.training.vocabulary import make_tokenizer


def test_at_zero_gates_the_flamingo_is_its_language_model():
    recipe = load_recipe("tiny")
    collate = Collator(make_tokenizer())
    flamingo = Flamingo(recipe_config(recipe))
    flamingo.decoder.load_state_dict(new_decoder(flamingo.config.decoder, collate, 0).state_dict())
    new_blocks(flamingo, recipe.flamingo, 0)
    batch = collate([[Chunk(0, "Output:", "dax"), Chunk(1, "Output:", "wug")]], 0.0, in_words=False)
    pictures = torch.randn(2, 1, flamingo.config.vision.positions, flamingo.config.vision.width)
    with torch.inference_mode():
        logits = flamingo_logits(flamingo, features_of(batch, pictures), batch.tokens, batch.image_of_token)
        assert torch.equal(logits, flamingo.decoder(batch.tokens))


@pytest.mark.slow
def test_smoke_training_runs_all_stages_and_losses_fall(tmp_path):
    recipe = load_recipe("tiny").smoke()
    folder = train_recipe(recipe, tmp_path, "cpu", Console(file=io.StringIO()))
    for stage in ("contrastive", "language", "flamingo"):
        losses = [json.loads(line)["loss"] for line in (tmp_path / f"{stage}.jsonl").read_text().splitlines()]
        assert losses[-1] < losses[0], stage
    shares = json.loads((tmp_path / "language-check.json").read_text())
    assert set(shares) == set(CHECKED)
    assert all(0 <= share <= 1 for share in shares.values())
    model = Model.load(folder)
    picture = Pixels(torch.zeros(3, 64, 64))
    prompt = Prompt([picture, "Output: dax", END_OF_CHUNK, picture, "Output:"])
    assert isinstance(model.generate([prompt], DecodeSpec(beams=1, max_new_tokens=3))[0], str)
    state = torch.load(tmp_path / "language.pt", weights_only=True)["modules"]["decoder"]
    kept = {k.removeprefix("decoder."): v for k, v in model.flamingo.state_dict().items() if k.startswith("decoder.")}
    assert all(torch.equal(kept[k], v.half().float()) for k, v in state.items())  # frozen in stage 3
    with pytest.raises(CheckpointError, match="another recipe"):
        train_recipe(replace(recipe, seed=1), tmp_path, "cpu", Console(file=io.StringIO()))


def test_weight_hashes_see_every_change():
    module = torch.nn.Linear(2, 2)
    before = weights_sha256([module])
    assert weights_sha256([module]) == before
    with torch.no_grad():
        module.bias[0] += 1e-6
    assert weights_sha256([module]) != before
