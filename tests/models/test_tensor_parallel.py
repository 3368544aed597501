"""A model over two ranks says what the whole model says: real processes, gloo, float32."""

from __future__ import annotations

import itertools
import math
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import spawn
from torch.testing import assert_close

from flamingo_eval import DecodeSpec, Pixels, Prompt
from flamingo_eval.api import load_flamingo_model
from flamingo_eval.engine import Engine
from flamingo_eval.errors import UsageError
from flamingo_eval.models.checkpoint import meta_flamingo, save_flamingo
from flamingo_eval.models.config import FlamingoConfig, TokenConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.presets import PRESETS
from flamingo_eval.models.tensor_parallel import bytes_a_rank, bytes_held, cut_of, require_divisible
from tests.support.small_flamingo import byte_tokenizer

TINY = Path(__file__).parents[2] / "flamingo_eval" / "sample" / "tiny"
DECODE = DecodeSpec(beams=3, max_new_tokens=4)


def prompts(size: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(5)
    a, b, c = (Pixels(torch.randn(3, size, size, generator=generator)) for _ in range(3))
    return [
        Prompt([a, "Question: what is it? Answer: dog", "<EOC>", b, "Question: what is it? Answer:"]),
        Prompt([c, "Output: two cat"]),
        Prompt(["where"]),
    ]


def said(folder: str, mesh: Any = None) -> dict[str, Any]:
    """Logits, text and log-likelihoods of a few prompts."""
    model = load_flamingo_model(folder, mesh=mesh)
    queries = prompts(model.config.preprocess.size)
    engine = Engine(model)
    return {
        "logits": [model.logits(p) for p in queries],
        "text": [answer.text for _, answer in sorted(engine.generate(iter(queries), DECODE))],
        "scores": model.score(queries, [["dog", "cat", "two dog"]] * 3),
        "bytes": bytes_held(model.flamingo),
    }


def _rank(rank: int, port: int, folders: dict[str, str], out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        torch.save({name: said(folder, mesh) for name, folder in folders.items()}, f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def middle_sized(folder: Path, preset: str, **decoder: Any) -> Path:
    """A preset's architecture at a middle size, random weights, gates open."""
    shape = PRESETS[preset]
    vision = replace(PRESETS["tiny"].vision)
    heads = {"layers": 4, "width": 256, "heads": 8, "head_dim": 32, "ff_width": 1024, "vocabulary": 260}
    config = replace(
        shape,
        name="middle",
        vision=vision,
        preprocess=PRESETS["tiny"].preprocess,
        resampler=replace(PRESETS["tiny"].resampler, grid=64),  # type: ignore[type-var]
        xattn=replace(shape.xattn, every=2, heads=4, head_dim=32, ff_width=512),
        decoder=replace(shape.decoder, **{**heads, "kv_heads": 8, **decoder}),
        tokens=TokenConfig(image_is_token=True),
    )
    generator = torch.Generator().manual_seed(3)
    flamingo = Flamingo(config)
    with torch.no_grad():
        for name, p in flamingo.named_parameters():
            if name.endswith("gate"):
                p.fill_(0.5)
            elif "relative" in name or p.ndim > 1:
                p.normal_(0.0, 0.05, generator=generator)
    fast = byte_tokenizer("<pad>", "<BOS>", config.tokens.image, config.tokens.end_of_chunk)
    save_flamingo(folder, config, flamingo.state_dict(), fast.to_str(), "random")
    return folder


MIDDLE: dict[str, dict[str, Any]] = {
    "flamingo-80b": {},  # relative positions, scalar gates, squared ReLU
    "openflamingo-9b": {},  # ALiBi: each rank has other heads' slopes
    "idefics-80b": {"kv_heads": 4, "rotary_dim": 32},  # rotary, gated feed-forward, grouped queries, vector gates
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint folder of each preset, of its architecture."""
    place = tmp_path_factory.mktemp("models")
    return {"tiny": TINY} | {name: middle_sized(place / name, name, **decoder) for name, decoder in MIDDLE.items()}


@pytest.fixture(scope="module")
def over_two_ranks(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks says, by preset: the processes are started once."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {name: str(folder) for name, folder in folders.items()}
    spawn(_rank, (port, names, str(out)), nprocs=2)  # type: ignore[no-untyped-call]  # of torch
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", *MIDDLE])
def test_two_ranks_say_what_one_process_says(
    preset: str, folders: dict[str, Path], over_two_ranks: list[dict[str, Any]]
) -> None:
    whole = said(str(folders[preset]))
    config = load_flamingo_model(folders[preset]).config
    for part in (said_by_rank[preset] for said_by_rank in over_two_ranks):
        for ours, theirs in zip(part["logits"], whole["logits"], strict=True):
            assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
        assert part["text"] == whole["text"]
        assert_close(torch.tensor(part["scores"]), torch.tensor(whole["scores"]), atol=2e-4, rtol=1e-4)
        assert part["bytes"] == bytes_a_rank(config, 2, 4)
        assert part["bytes"] < 0.8 * whole["bytes"]


@pytest.mark.slow
def test_every_large_tensor_of_the_80b_shapes_is_cut_in_eight() -> None:
    for name in ("flamingo-80b", "idefics-80b"):
        config = PRESETS[name]
        require_divisible(config, 8)
        whole = bytes_a_rank(config, 1, 2)
        part = bytes_a_rank(config, 8, 2)
        assert whole / 8 < part < whole / 8 + 5e9  # embeddings, head, encoder and Resampler are on every rank
        assert part < 26e9


@pytest.mark.slow
def test_the_80b_shapes_are_in_eight_equal_parts() -> None:
    """Each rank's ranges, taken together, are every row or column once; what the ranks hold is what is foretold."""
    config = PRESETS["flamingo-80b"]
    shapes = {name: tuple(t.shape) for name, t in meta_flamingo(config).state_dict().items()}
    cuts = {name: cut for name, shape in shapes.items() if (cut := cut_of(name, shape, config)) is not None}
    held = [0] * 8
    for name, shape in shapes.items():
        numbers = math.prod(shape)
        cut = cuts.get(name)
        ranges = [cut.ranges(rank, 8) for rank in range(8)] if cut else []
        if cut:
            taken = sorted(r for own in ranges for r in own)
            assert taken[0][0] == 0
            assert all(a[1] == b[0] for a, b in itertools.pairwise(taken))
            assert taken[-1][1] == shape[cut.dim] == sum(cut.parts), name
        for rank in range(8):
            rows = sum(b - a for a, b in ranges[rank]) if cut else 1
            held[rank] += numbers * rows // shape[cut.dim] * 2 if cut else numbers * 2
    assert held == [bytes_a_rank(config, 8, 2)] * 8
    assert round(held[0] / 1e9, 1) == 21.3  # docs/scale.md
    assert round(bytes_a_rank(config, 1, 2) / 1e9) == 158
    split = sum(math.prod(shapes[name]) for name in cuts)
    assert split > 0.98 * sum(math.prod(s) for n, s in shapes.items() if n.startswith(("decoder.blocks.", "xattn.")))


def test_a_cut_takes_the_same_heads_of_queries_keys_and_values() -> None:
    config = replace(PRESETS["tiny"], decoder=replace(PRESETS["tiny"].decoder, heads=4, kv_heads=2, head_dim=8))
    cut = cut_of("decoder.blocks.0.attention.qkv.weight", (64, 192), config)
    assert cut is not None
    assert cut.ranges(1, 2) == [(16, 32), (40, 48), (56, 64)]
    assert cut_of("vision.stem.weight", (8, 8), config) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": 6, "kv_heads": 6}, "decoder.heads: 6 is not divisible by 4"),
        ({"ff_width": 770}, "decoder.ff_width: 770"),
        ({"qk_norm": True}, "decoder.qk_norm: a norm over all heads"),
    ],
)
def test_what_cannot_be_shared_is_named(change: dict[str, Any], says: str) -> None:
    tiny: FlamingoConfig = PRESETS["tiny"]
    with pytest.raises(UsageError, match=says):
        require_divisible(replace(tiny, decoder=replace(tiny.decoder, **change)), 4)
