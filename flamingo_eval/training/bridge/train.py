"""One run of the stage `bridge`, from a built folder to a trained one. A run that was killed resumes exactly."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from flamingo_eval.errors import CheckpointError, ModelError
from flamingo_eval.models.checkpoint import load_flamingo
from flamingo_eval.models.checkpoint_files import CONFIG, TOKENIZER, checkpoint_sha256
from flamingo_eval.models.config_json import read_config
from flamingo_eval.models.tokenizer import Tokenizer
from flamingo_eval.runs.estimate import matrix_rate
from flamingo_eval.training.bridge.beginning import begin
from flamingo_eval.training.bridge.curves import CsvCurve
from flamingo_eval.training.bridge.export import bridge_card, gathered, write_folder
from flamingo_eval.training.bridge.feed import Feed, Share, Update, check_sizes
from flamingo_eval.training.bridge.flops import UpdateFlops
from flamingo_eval.training.bridge.invented import write_invented
from flamingo_eval.training.bridge.journal import Journal
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.ranks import How, Ranks, how_to_share, joined, shared, without_sync
from flamingo_eval.training.bridge.recipe import BridgeRecipe, StateSpec
from flamingo_eval.training.bridge.run_folder import claim_folder
from flamingo_eval.training.bridge.scores import scores_of, write_figure
from flamingo_eval.training.bridge.sequences import Batch, SequenceMaker
from flamingo_eval.training.bridge.state import States, load_state
from flamingo_eval.training.loop import learning_rate, make_optimizer

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SMOKE_UPDATES = 30


def train_bridge(recipe: BridgeRecipe, base: Path, out: Path, device: str, console: Console) -> Path:
    """Train and write the folder out/checkpoint; names of files in the recipe are below `base`.

    Under torchrun every rank calls this. Raises CheckpointError (the built folder, or `out` of another run), DataError,
    ConfigError, UsageError, ModelError (a gradient that is NaN or infinite).
    """
    with joined(device) as ranks:
        run = _Run(recipe, base, out, ranks, console)
        try:
            return run.train()
        finally:
            run.close()


def smoke_recipe(recipe: BridgeRecipe, out: Path) -> BridgeRecipe:
    """The same data with invented parts, small batches and few updates, to check the files and that the loss falls."""
    data = tuple(replace(spec, batch=min(spec.batch, 8), block=min(spec.block, 64)) for spec in recipe.data)
    evaluate = recipe.evaluate
    if evaluate is not None:
        evaluate = replace(evaluate, tasks=evaluate.tasks[:1], every=SMOKE_UPDATES, shots=evaluate.shots[:1], limit=4)
    return replace(
        recipe,
        model=str(write_invented(out / "invented", recipe.seed).absolute()),
        data=data,
        optim=replace(recipe.optim, updates=SMOKE_UPDATES, warmup=3, lr=3e-3),
        dtype="float32",
        init="unit",
        gate_lr=5.0,
        tokens=min(recipe.tokens, 160),
        threads=1,
        accumulate=1,
        log_every=5,
        until=None,
        state=StateSpec(every_s=recipe.state.every_s, keep=1),
        evaluate=evaluate,
    )


class _Run:
    def __init__(self, recipe: BridgeRecipe, base: Path, out: Path, ranks: Ranks, console: Console) -> None:
        self.recipe, self.out, self.ranks, self.console = recipe, out, ranks, console
        self.source = base / recipe.model
        check_sizes(recipe, ranks.size)
        config = read_config(self.source / CONFIG)
        torch.set_num_threads(recipe.threads)
        self.tokenizer = Tokenizer.load(self.source / TOKENIZER, config.tokens, config.decoder.vocabulary)
        self.tokens = 1 + max(self.tokenizer.fast.get_vocab(with_added_tokens=True).values())
        make = SequenceMaker(self.tokenizer, recipe.tokens, recipe.pictures)
        self.feed = Feed(recipe, base, config.preprocess, make, self.say_anyway, ranks.rank, ranks.size)
        claim_folder(out, f"{recipe.identity()} on {checkpoint_sha256(self.source)}", ranks)
        self.dtype = DTYPES[recipe.dtype]
        flamingo = load_flamingo(self.source, ranks.device, self.dtype)
        self.config = flamingo.config
        self.bridge = Bridge(flamingo, self.tokens, recipe.checkpointing)
        factors = begin(self.bridge, recipe.init, recipe.seed, ranks.device)
        self.how: How = how_to_share(recipe.parallel, self.bridge, ranks)
        self.module: nn.Module = shared(self.bridge, self.how, ranks)
        self.optimizer = make_optimizer([self.bridge], recipe.optim, recipe.gate_lr, fused=True, factors=factors)
        self.states = States(out / "states", recipe.state, ranks, sharded=self.how == "fsdp")
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def say(self, text: str) -> None:
        """Print one line, from the first rank."""
        if self.ranks.first:
            self.say_anyway(text)

    def say_anyway(self, text: str) -> None:
        """Print one line from any rank."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        """End the background threads."""
        self.feed.__exit__(None, None, None)

    # ------------------------------------------------------------------------------------------------------- training

    def train(self) -> Path:
        folder, recipe = self.out / "checkpoint", self.recipe
        done, seconds = self._resume()
        end = recipe.last_update
        if (folder / CONFIG).is_file() and done >= end:
            self.say(f"{folder}: finished.")
            return folder
        journal = Journal(recipe, self.out, self.ranks, self.bridge, done, self.say)
        self.scores = CsvCurve(self.out / "scores.csv", done) if self.ranks.first else None
        self._evaluate(done, start=True)
        rate = matrix_rate(self.ranks.device, self.dtype) if self.ranks.first else 1.0
        flops = UpdateFlops(self.config, self.tokens) if self.ranks.first else None
        clock = saved = time.monotonic()
        journal.begin()
        ended, spent = "", seconds
        place: Mapping[str, Any] = {}
        for number in range(done, end):
            began = time.monotonic()
            prepared = self.feed.update(number)
            if prepared.ended:
                ended = prepared.ended
                break
            wants = float(self.ranks.first and began - saved > recipe.state.every_s)
            save, norm = self._step(number, prepared, journal, wants)
            done = number + 1
            spent = seconds + time.monotonic() - clock
            last = done == end
            if done % recipe.log_every == 0 or last:
                share = self._flop_share(flops, prepared, time.monotonic() - began, rate)
                journal.write(done, norm, spent, share)
            self.states.poll()
            place = prepared.state
            kept = recipe.state.keep_every and done % recipe.state.keep_every == 0
            if save or last or kept:
                saved = time.monotonic()
                self._save(done, spent, place)
            self._evaluate(done)
        if ended:
            self.say(f"{ended} Training ends after {done} of {end} updates.")
            if place:
                self._save(done, spent, place)
            if not done:
                raise CheckpointError(f"{ended} No update was made.", fix="Lower `batch`, or give more data.")
        self.states.finish()
        return self._export(done)

    def _step(self, number: int, prepared: Update, journal: Journal, wants_save: float) -> tuple[bool, float]:
        """One update: gradients of all its data sets added, clipped, applied. -> whether to save, gradient norm"""
        recipe, ranks = self.recipe, self.ranks
        specs = {spec.name: spec for spec in recipe.data}
        counts = ranks.sums(torch.tensor([*(float(s.learned) for s in prepared.shares.values()), wants_save]))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe.optim, number) * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        passes = [(name, batch) for name, share in prepared.shares.items() for batch in share.batches]
        totals = dict(zip(prepared.shares, counts.tolist(), strict=False))
        for i, (name, batch) in enumerate(passes):
            total = max(totals[name], 1.0)
            with without_sync(self.module, self.how, last=i == len(passes) - 1):
                loss = self._loss(batch)
                # gradients are averaged over ranks
                (loss * (specs[name].weight * ranks.size / total)).backward()
            journal.add(name, loss.item(), batch)
        norm = nn.utils.clip_grad_norm_(self.parameters, recipe.optim.clip)
        value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if value != value or value == float("inf"):
            raise ModelError(
                f"update {number + 1}: the gradient is NaN or infinite.", fix="Lower optim.lr, or use dtype: float32."
            )
        self.optimizer.step()
        return bool(counts[-1] > 0), value

    def _loss(self, batch: Batch) -> Tensor:
        kind = self.ranks.device.type
        moved = batch.to(self.ranks.device)
        with torch.autocast(kind, self.dtype, enabled=self.dtype != torch.float32):
            loss: Tensor = self.module(moved)
            return loss

    def _flop_share(self, flops: UpdateFlops | None, prepared: Update, seconds: float, rate: float) -> float:
        """Operations of this rank in the last update, as a share of the device's matrix rate."""
        if flops is None:
            return 0.0
        shares: Mapping[str, Share] = prepared.shares
        return sum(flops.of(batch) for share in shares.values() for batch in share.batches) / (seconds * rate)

    # ------------------------------------------------------------------------------------------- state, curves, scores

    def _resume(self) -> tuple[int, float]:
        newest = self.states.newest()
        if newest is None:
            return 0, 0.0
        meta = load_state(newest, self.bridge, self.optimizer)
        self.feed.restore(meta["data"])
        self.say(f"resuming after update {meta['update']}")
        return int(meta["update"]), float(meta["seconds"])

    def _save(self, done: int, seconds: float, data: Mapping[str, Any]) -> None:
        kept = {name: dict(value) for name, value in data.items()}
        counts = [[value["opened"], value["broken"]] for value in kept.values()]
        sums = self.ranks.sums(torch.tensor(counts, dtype=torch.float64)).tolist()
        for value, (opened, broken) in zip(kept.values(), sums, strict=True):
            value["opened"], value["broken"] = int(opened), int(broken)
        self.states.save(done, self.bridge, self.optimizer, {"seconds": seconds, "data": kept})

    def _evaluate(self, done: int, start: bool = False) -> None:
        """Evaluate the current weights: before the first update, and after every n-th one."""
        spec = self.recipe.evaluate
        if spec is None or (done % spec.every and done != self.recipe.last_update) or (start and done):
            return
        if self.ranks.first or self.how == "fsdp":
            out = self.out / "evaluations" / f"{done:08d}"
            if not self.ranks.first:
                out = self.out / "evaluations" / f".{self.ranks.rank}"
            rows = scores_of(self.bridge, self.tokenizer, spec, out, self.recipe.name, done)
            if self.scores is not None:
                for row in rows:
                    self.scores.add(row)
                    self.say(f"{done:>6}  {row['task']} {row['metric']} {row['shots']} shots: {row['score']:.2f}")
                write_figure(self.out / "scores.svg", self.scores.rows)
            else:
                shutil.rmtree(out, ignore_errors=True)
        self.ranks.wait()

    # ---------------------------------------------------------------------------------------------------------- folder

    def _export(self, done: int) -> Path:
        folder = self.out / "checkpoint"
        trained = gathered(self.bridge)
        if self.ranks.first:
            samples_seen = {name: f"{o.tally.opened:,}" for name, o in self.feed.openers.items()}
            shutil.rmtree(folder, ignore_errors=True)
            config = replace(self.config, name=self.recipe.name)
            rows = self.bridge.new_rows
            card = bridge_card(self.recipe, config, self.source, done, samples_seen)
            write_folder(folder, config, self.source, trained, None if rows is None else rows.first, card)
        self.ranks.wait()
        return folder
