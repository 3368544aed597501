"""Samples become sequences and batches as the paper says, and the trained network is the one that answers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from flamingo_eval.models.checkpoint import load_flamingo
from flamingo_eval.models.checkpoint_files import TOKENIZER
from flamingo_eval.models.preprocess import normalised
from flamingo_eval.models.tokenizer import Tokenizer
from flamingo_eval.records import END_OF_CHUNK
from flamingo_eval.training.bridge.beginning import begin, stream_sizes
from flamingo_eval.training.bridge.flops import UpdateFlops
from flamingo_eval.training.bridge.invented import write_invented
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.sequences import SequenceMaker, TokenSequence, collate, next_pictures
from flamingo_eval.training.streams.samples import BrokenSample, Part, Picture, Sample, Text
from tests.support.small_flamingo import open_gates

SIZE = 32


def picture(seed: int, frames: int = 1) -> Picture:
    generator = torch.Generator().manual_seed(seed)
    return Picture(torch.randint(0, 256, (frames, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_invented(tmp_path_factory.mktemp("parts") / "invented", 0)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    flamingo = load_flamingo(folder, torch.device("cpu"), torch.float32)
    return Tokenizer.load(folder / TOKENIZER, flamingo.config.tokens, flamingo.config.decoder.vocabulary)


@pytest.fixture
def bridge(folder: Path) -> Bridge:
    """Open gates, so that pictures matter."""
    flamingo = open_gates(load_flamingo(folder, torch.device("cpu"), torch.float32))
    return Bridge(flamingo, 258)


def make(
    tokenizer: Tokenizer, parts: tuple[Part, ...], tokens: int = 64, pictures: int = 5, seed: int = 0
) -> TokenSequence:
    return SequenceMaker(tokenizer, tokens, pictures)(Sample(parts), Random(seed))


def shown(tokenizer: Tokenizer, sequence: TokenSequence) -> str:
    text: str = tokenizer.fast.decode(list(sequence.ids), skip_special_tokens=False)
    return text


def test_a_pair_learns_its_text_and_its_end(tokenizer: Tokenizer) -> None:
    sequence = make(tokenizer, (picture(0), Text("Out:", learned=False), Text(" cat"), END_OF_CHUNK))
    assert shown(tokenizer, sequence) == "<image>Out: cat<|endofchunk|>"
    assert sequence.learned == (False,) + (False,) * 4 + (True,) * 4 + (True,)
    assert sequence.sees == (1,) * 10


def test_text_before_the_first_picture_sees_none(tokenizer: Tokenizer) -> None:
    parts = (Text("ab"), END_OF_CHUNK, picture(0), Text("c"), END_OF_CHUNK, picture(1), Text("d"), END_OF_CHUNK)
    sequence = make(tokenizer, parts)
    assert sequence.sees == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert next_pictures(sequence.sees, 2) == (1, 1, 1, 2, 2, 2, 0, 0, 0)


def test_half_of_the_documents_see_the_next_picture(tokenizer: Tokenizer) -> None:
    sample = Sample((Text("a"), END_OF_CHUNK, picture(0), Text("b"), END_OF_CHUNK), "window", next_picture=0.5)
    maker = SequenceMaker(tokenizer, 64, 5)
    pictures_seen = [maker(sample, Random(i)).sees for i in range(200)]
    assert set(pictures_seen) == {(0, 0, 1, 1, 1), (1, 1, 0, 0, 0)}
    assert 70 < pictures_seen.count((1, 1, 0, 0, 0)) < 130


def test_a_long_pair_loses_its_end(tokenizer: Tokenizer) -> None:
    sequence = make(tokenizer, (picture(0), Text("abcdefghij"), END_OF_CHUNK), tokens=6)
    assert shown(tokenizer, sequence) == "<image>abcde"


def test_a_long_document_becomes_a_window_with_a_picture(tokenizer: Tokenizer) -> None:
    parts: list[Part] = []
    for i in range(8):
        parts += [picture(i), Text(f"text {i} " * 3), END_OF_CHUNK]
    maker = SequenceMaker(tokenizer, 70, 2)
    texts = set()
    for seed in range(60):
        sequence = maker(Sample(tuple(parts), "window"), Random(seed))
        assert len(sequence.ids) <= 70
        assert 1 <= len(sequence.pictures) <= 2
        assert max(sequence.sees) == len(sequence.pictures)
        text = shown(tokenizer, sequence)
        assert text.count("<image>") == len(sequence.pictures)
        first = text.index("<image>")
        number = int(text[first + len("<image>text ")])
        assert torch.equal(sequence.pictures[0], parts[3 * number].pixels)  # type: ignore[union-attr]
        texts.add(text)
    assert len(texts) > 10


def test_a_long_episode_loses_its_first_demonstrations(tokenizer: Tokenizer) -> None:
    parts: list[Part] = []
    for i in range(4):
        parts += [picture(i), Text("Q:", learned=False), Text(f" {i}"), END_OF_CHUNK]
    maker = SequenceMaker(tokenizer, 64, 2)
    sequence = maker(Sample(tuple(parts), "chunks"), Random(0))
    assert shown(tokenizer, sequence) == "<image>Q: 2<|endofchunk|><image>Q: 3<|endofchunk|>"
    with pytest.raises(BrokenSample, match="one demonstration has 6 tokens, more than 4"):
        SequenceMaker(tokenizer, 4, 2)(Sample(tuple(parts), "chunks"), Random(0))


def test_text_with_a_special_token_is_broken(tokenizer: Tokenizer) -> None:
    with pytest.raises(BrokenSample, match="holds '<image>'"):
        make(tokenizer, (picture(0), Text("an <image> tag"), END_OF_CHUNK))


def some_sequences(tokenizer: Tokenizer) -> list[TokenSequence]:
    return [
        make(tokenizer, (picture(0), Text("Out:", learned=False), Text(" one cat"), END_OF_CHUNK)),
        make(tokenizer, (Text("no picture here"), END_OF_CHUNK)),
        make(tokenizer, (picture(1), Text("a"), END_OF_CHUNK, picture(2), Text("longer text"), END_OF_CHUNK)),
        make(tokenizer, (picture(3, frames=3), Text("a clip"), END_OF_CHUNK)),
    ]


def loss_by_hand(bridge: Bridge, sequence: TokenSequence) -> Tensor:
    """Summed loss of one sequence through the network that answers prompts."""
    flamingo = bridge.flamingo
    pixels = [normalised(p, flamingo.config.preprocess)[None] for p in sequence.pictures]
    visual = torch.cat([flamingo.visual_tokens(flamingo.features(p)) for p in pixels])[None] if pixels else None
    ids = torch.tensor([sequence.ids])
    kv = None if visual is None else flamingo.project_visual(visual)
    logits = flamingo(ids, kv, torch.tensor([sequence.sees]))[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1].float(), ids[0, 1:], reduction="none")
    return losses[torch.tensor(sequence.learned[1:])].sum()


@pytest.mark.parametrize("packing", [None, (64, 5)])
def test_a_batch_gives_the_loss_of_its_sequences_one_by_one(
    bridge: Bridge, tokenizer: Tokenizer, packing: tuple[int, int] | None
) -> None:
    sequences = some_sequences(tokenizer)
    batch = collate(sequences, SIZE, packing)
    assert len(batch.tokens) == (4 if packing is None else 1)
    expected = sum(loss_by_hand(bridge, s) for s in sequences)
    torch.testing.assert_close(bridge(batch), expected, rtol=1e-5, atol=1e-5)


def test_checkpointing_changes_no_gradient(folder: Path, tokenizer: Tokenizer) -> None:
    batch = collate(some_sequences(tokenizer), SIZE)
    gradients = []
    for checkpointing in (False, True):
        bridge = Bridge(open_gates(load_flamingo(folder, torch.device("cpu"), torch.float32)), 258, checkpointing)
        bridge(batch).backward()
        gradients.append({n: p.grad for n, p in bridge.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_only_new_parts_and_new_rows_learn(bridge: Bridge, tokenizer: Tokenizer) -> None:
    bridge(collate(some_sequences(tokenizer), SIZE)).backward()
    learned = {name for name, p in bridge.named_parameters() if p.requires_grad}
    assert all(name.startswith(("flamingo.resampler.", "flamingo.xattn.", "new_rows.")) for name in learned)
    assert {name for name, p in bridge.named_parameters() if p.grad is not None} == learned
    frozen = [p for n, p in bridge.named_parameters() if n.startswith(("flamingo.vision.", "flamingo.decoder."))]
    assert frozen
    assert not any(p.requires_grad for p in frozen)


def test_changed_rows_are_what_a_token_is_embedded_as_and_predicted_by(bridge: Bridge, tokenizer: Tokenizer) -> None:
    batch = collate(some_sequences(tokenizer), SIZE)
    assert bridge.new_rows is not None
    with torch.no_grad():
        bridge.new_rows.embedding.normal_(generator=torch.Generator().manual_seed(0))
        trained = bridge(batch)
        bridge.flamingo.decoder.embedding.weight[256:258] = bridge.new_rows.embedding
        bridge.new_rows = None
        torch.testing.assert_close(bridge(batch), trained)


def test_a_rank_without_samples_runs_every_layer_and_learns_nothing(bridge: Bridge) -> None:
    empty = collate([], SIZE)
    loss = bridge(empty)
    loss.backward()
    assert float(loss.detach()) == 0.0
    gradients = [p.grad for p in bridge.parameters() if p.requires_grad]
    assert all(g is not None and not g.any() for g in gradients)


@pytest.mark.slow
def test_operations_of_an_update_are_counted_for_its_shapes(bridge: Bridge, tokenizer: Tokenizer) -> None:
    flops = UpdateFlops(bridge.flamingo.config, 258)
    sequences = some_sequences(tokenizer)
    one = flops.of(collate(sequences[:1], SIZE))
    two = flops.of(collate([sequences[0], sequences[0]], SIZE))
    assert one > 0
    assert two == 2 * one
    weights = sum(p.numel() for p in bridge.flamingo.decoder.blocks.parameters())
    tokens = collate(sequences[:1], SIZE).tokens.numel()
    assert one > 4 * weights * tokens  # forward, and backward to the inputs


def test_frozen_parts_stay_in_the_dtype_of_the_products(folder: Path) -> None:
    bridge = Bridge(load_flamingo(folder, torch.device("cpu"), torch.bfloat16), 258)
    kinds = {p.requires_grad: p.dtype for p in bridge.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_new_parts_may_begin_as_large_as_the_stream_they_are_added_to(folder: Path) -> None:
    flamingo = load_flamingo(folder, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        flamingo.decoder.embedding.weight.mul_(16.0 / flamingo.decoder.embedding.weight.square().mean().sqrt())
    bridge = Bridge(flamingo, 258)
    sizes = stream_sizes(flamingo, 0)
    assert sizes[0] == 16.0
    assert begin(bridge, "unit", 0, torch.device("cpu")) == {}
    before = {name: value.clone() for name, value in flamingo.xattn.state_dict().items()}
    factors = begin(bridge, "stream", 0, torch.device("cpu"))
    for name, value in flamingo.xattn.state_dict().items():
        block = int(name.split(".")[0])
        larger = name.endswith(("attention.out.weight", "ff.down.weight"))
        assert torch.equal(value, before[name] * (sizes[block] if larger else 1.0))
        assert factors.get(f"flamingo.xattn.{name}") == (sizes[block] if larger else None)
