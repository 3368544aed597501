"""One run of the stage `contrastive`. A killed run resumes exactly; each rank compares with the pairs of all ranks."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from flamingo_eval.errors import CheckpointError, ModelError
from flamingo_eval.models.checkpoint import save_tensors
from flamingo_eval.models.checkpoint_files import CARD, CONFIG, TOKENIZER, WEIGHTS
from flamingo_eval.models.config import EncoderConfig
from flamingo_eval.models.config_json import write_config
from flamingo_eval.models.convert.build import encoder_weights, read_vision
from flamingo_eval.models.convert.foreign_weights import close_files
from flamingo_eval.models.convert.writer import new_folder
from flamingo_eval.models.initialise import initialise
from flamingo_eval.models.preprocess import normalised
from flamingo_eval.models.tokenizer import read_tokenizer
from flamingo_eval.training.bridge.curves import CsvCurve
from flamingo_eval.training.bridge.ranks import Ranks, joined
from flamingo_eval.training.bridge.run_folder import claim_folder
from flamingo_eval.training.bridge.state import States, load_state
from flamingo_eval.training.contrastive.gather import add_gradients, gathered_rows, shared_scale
from flamingo_eval.training.contrastive.pairs import Pair, PairsFeed, TextMaker
from flamingo_eval.training.contrastive.recipe import ContrastiveRecipe
from flamingo_eval.training.contrastive.zero_shot import ZeroShot
from flamingo_eval.training.loop import attention_kernels, learning_rate, make_optimizer
from flamingo_eval.training.towers import Contrastive, ContrastiveConfig, TextTowerConfig, two_term_loss

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
MAX_SCALE = 4.6052  # log of 100, CLIP's largest inverse temperature


def train_encoder(recipe: ContrastiveRecipe, base: Path, out: Path, device: str, console: Console) -> Path:
    """Train and write the folder out/encoder, for `build --vision`; names in the recipe are below `base`.

    Raises CheckpointError, DataError, ConfigError, UsageError, ModelError (a gradient that is NaN or infinite).
    """
    with joined(device) as ranks:
        return _Run(recipe, base, out, ranks, console).train()


class _Run:
    def __init__(self, recipe: ContrastiveRecipe, base: Path, out: Path, ranks: Ranks, console: Console) -> None:
        self.recipe, self.out, self.ranks, self.console = recipe, out, ranks, console
        torch.set_num_threads(recipe.threads)
        vision = read_vision(base / recipe.vision, None)
        self.config = EncoderConfig(recipe.name, vision.config, vision.preprocess)
        tokenizer = base / recipe.tokenizer
        self.texts = TextMaker(
            read_tokenizer(tokenizer / TOKENIZER if tokenizer.is_dir() else tokenizer), recipe.text.context
        )
        self.feed = PairsFeed(recipe, base, vision.preprocess, self.say_anyway, ranks.rank, ranks.size)
        self.zero_shot = None if recipe.evaluate is None else ZeroShot(recipe.evaluate, vision.preprocess, self.texts)
        claim_folder(out, recipe.identity(), ranks)
        text = recipe.text
        tower = TextTowerConfig(
            self.texts.vocabulary, text.context, text.width, text.layers, text.heads, 4 * text.width
        )
        self.towers = Contrastive(
            ContrastiveConfig(vision.config, tower, recipe.width, label_smoothing=recipe.label_smoothing)
        )
        initialise(self.towers, torch.Generator().manual_seed(recipe.seed))
        if not recipe.fresh:
            self.towers.vision.load_state_dict(encoder_weights(vision, base / recipe.vision))
        close_files()
        self.towers.to(ranks.device)
        self.optimizer = make_optimizer([self.towers], recipe.optim, fused=True)
        self.parameters: list[Tensor] = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.states = States(out / "states", recipe.state, ranks, sharded=False)

    def say_anyway(self, text: str) -> None:
        """Print one line from any rank."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def say(self, text: str) -> None:
        """Print one line, from the first rank."""
        if self.ranks.first:
            self.say_anyway(text)

    def train(self) -> Path:
        """-> the encoder's folder"""
        recipe, folder = self.recipe, self.out / "encoder"
        done, before = self._resume()
        if done >= recipe.optim.updates and (folder / CONFIG).is_file():
            self.say(f"{folder}: finished.")
            return folder
        curve = CsvCurve(self.out / "curves.csv", done) if self.ranks.first else None
        clock = saved = time.monotonic()
        losses: list[float] = []
        with self.feed:
            for number in range(done, recipe.optim.updates):
                batch = self.feed.next()
                if batch.ended:
                    self.say(f"{batch.ended} Training ends after {number} of {recipe.optim.updates} updates.")
                    break
                losses.append(self._step(number, batch.pairs))
                done, last = number + 1, number + 1 == recipe.optim.updates
                spent = before + time.monotonic() - clock
                row: dict[str, float | int | str] = {"update": done}
                if done % recipe.log_every == 0 or last:
                    row |= {"loss": sum(losses) / len(losses), "lr": learning_rate(recipe.optim, number)}
                    row |= {"temperature": float((-self.towers.log_inverse_temperature.detach()).exp())}
                    row["seconds"] = spent
                    losses.clear()
                every = recipe.evaluate.every if recipe.evaluate is not None else 0
                if self.ranks.first and self.zero_shot is not None and (done % every == 0 or last):
                    row |= self.zero_shot.scores(self.towers, self.ranks.device)
                if curve is not None and len(row) > 1:
                    curve.add(row)
                    values = (f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float))
                    self.say(f"{done:>6}/{recipe.optim.updates}  {'  '.join(values)}")
                self.states.poll()
                if last or time.monotonic() - saved > recipe.state.every_s:
                    saved = time.monotonic()
                    self.states.save(done, self.towers, self.optimizer, {"seconds": spent, "data": dict(batch.state)})
        self.states.finish()
        if not done:
            raise CheckpointError("No update was made.", fix="Lower `batch`, or give more data.")
        return self._export(folder, done)

    def _step(self, number: int, pairs: Sequence[Pair]) -> float:
        """One update over the pairs of all ranks. -> their loss"""
        ranks, towers = self.ranks, self.towers
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe.optim, number) * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        images, texts, keys = self._embedded(pairs)
        images, texts = gathered_rows(images, ranks), gathered_rows(texts, ranks)
        keys = gathered_rows(keys, ranks)
        same = keys[:, None] == keys[None, :]
        scale = shared_scale(towers.log_inverse_temperature, ranks)
        loss = two_term_loss(images.float(), texts.float(), scale, same, self.recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        add_gradients(self.parameters, ranks)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.recipe.optim.clip))
        if norm != norm or norm == float("inf"):
            raise ModelError(f"update {number + 1}: the gradient is NaN or infinite.", fix="Lower optim.lr.")
        self.optimizer.step()
        with torch.no_grad():
            towers.log_inverse_temperature.clamp_(max=MAX_SCALE)
        return float(loss.detach())

    def _embedded(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of this rank's pairs, and a number that equal captions share. Two of [n, E], int64[n]"""
        device, dtype = self.ranks.device, DTYPES[self.recipe.dtype]
        size = self.config.preprocess.size
        filled = pairs or (Pair(torch.zeros(3, size, size, dtype=torch.uint8), "-"),)  # a rank may have none
        pixels = normalised(torch.stack([pair.pixels for pair in filled]).to(device), self.config.preprocess)
        tokens, real = self.texts([pair.text for pair in filled])
        with attention_kernels(device), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            images = self.towers.embed_images(pixels)
            texts = self.towers.embed_texts(tokens.to(device), real.to(device))
        keys = torch.tensor([_key(pair.text) for pair in filled], device=device)
        n = len(pairs)
        return images[:n], texts[:n], keys[:n]

    def _resume(self) -> tuple[int, float]:
        newest = self.states.newest()
        if newest is None:
            return 0, 0.0
        meta = load_state(newest, self.towers, self.optimizer)
        self.feed.restore(meta["data"])
        self.say(f"resuming after update {meta['update']}")
        return int(meta["update"]), float(meta["seconds"])

    def _export(self, folder: Path, done: int) -> Path:
        if self.ranks.first:
            shutil.rmtree(folder, ignore_errors=True)
            weights = {f"vision.{k}": v.detach().cpu() for k, v in self.towers.vision.state_dict().items()}
            with new_folder(folder) as unfinished:
                save_tensors(weights, unfinished / WEIGHTS)
                write_config(self.config, unfinished / CONFIG)
                what = f"A vision encoder trained by flamingo-eval on pairs for {done:,} updates."
                (unfinished / CARD).write_text(f"# {self.recipe.name}\n\n{what}\n", encoding="utf-8")
        self.ranks.wait()
        return folder


def _key(text: str) -> int:
    """A number that is the same only for equal texts, in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
