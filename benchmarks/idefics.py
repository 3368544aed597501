"""flamingo-eval and transformers' IDEFICS `generate`, with the same random weights, converted.

The peer gets pictures as pixels, in batches. Ours opens the queries' files and has the support set's in the cache.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.world import VOCABULARY, make_rows
from flamingo_eval.api import Model
from flamingo_eval.config.specs import DecodeSpec
from flamingo_eval.engine import Engine, VisionCache
from flamingo_eval.models.convert.idefics import convert_idefics
from flamingo_eval.models.loaded import DTYPES
from flamingo_eval.records import Image, Part, Prompt

SPEC = DecodeSpec(beams=3, max_new_tokens=5)
TOKENS = ("<s>", "</s>", "<fake_token_around_image>", "<image>")
PEERS = {0: 8, 4: 8, 8: 4, 16: 2, 32: 1}  # queries of the peer, and its batch size
SPARE = 8


def idefics(work: Path, shots: Sequence[int], queries: int, repeats: int, device: str, dtype: str) -> None:
    """Queries per second at each number of shots: 3 beams, 5 new tokens; both sides on one device with one dtype."""
    import transformers

    folder = work / "idefics"
    if not (folder / "ours").is_dir():
        _make(folder)
    theirs = transformers.IdeficsForVisionText2Text.from_pretrained(folder / "theirs").eval()
    theirs.to(device, DTYPES[dtype])
    model = Model.load(folder / "ours", device, dtype)
    support = make_rows(work / "pictures", max(shots) + SPARE)
    rows = make_rows(work / "pictures", queries * repeats, seed=1)
    print("VQA against transformers' IDEFICS, ViT-B/32 and LLaMA at 768 x 12, a gated block every 4th,", end="")
    print(f" {device}, {dtype}\n")
    print("| shots | tokens | ours, queries/s | peer, queries/s | ratio | same text |\n|---|---|---|---|---|---|")
    for n in shots:
        ours, peers, same, tokens = [], [], [], 0
        for turn in range(repeats):
            prompts = []
            for i, query in enumerate(rows[turn * queries : (turn + 1) * queries]):
                parts: list[Part] = []
                for shot in random.Random(f"{turn}:{i}").sample(support, n):
                    parts += [Image(shot.picture), f" {shot.question} {shot.answer} "]
                prompts.append(Prompt([*parts, Image(query.picture), f" {query.question}"], f"{turn}:{i}"))
            engine = Engine(model, cache=VisionCache("idefics"))
            engine.pictures.tokens(Image(r.picture) for r in support)
            began = time.perf_counter()
            answers = dict(engine.generate(iter(prompts), SPEC))
            ours.append(queries / (time.perf_counter() - began))
            tokens = answers[0].tokens
            some = prompts[: min(PEERS.get(n, 1) if device == "cpu" else max(PEERS.values()), queries)]
            inputs = {name: x.to(device) for name, x in _given(model, some).items()}
            inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            began = time.perf_counter()
            with torch.inference_mode():
                out = theirs.generate(
                    **inputs,
                    num_beams=3,
                    max_new_tokens=5,
                    length_penalty=0.0,
                    pad_token_id=0,
                    eos_token_id=_end(model),
                )
            peers.append(len(some) / (time.perf_counter() - began))
            for i, row in enumerate(out[:, inputs["input_ids"].shape[1] :].tolist()):
                same.append(model.tokenizer.decode(row).split() == (answers[i].text or "").split())
        mine, other = statistics.median(ours), statistics.median(peers)
        line = f"{mine:.3g} | {other:.3g} | {mine / other:.1f} | {sum(same)}/{len(same)}"
        print(f"| {n} | {tokens} | {line} |", flush=True)
    print(flush=True)


def _end(model: Model) -> int:
    return model.tokenizer.stop_ids[0]


def _given(model: Model, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """The prompts in the form of their processor: ids, pixels, and which pictures each token sees."""
    encoded = [model.encode(p) for p in prompts]
    length = {len(e.ids) for e in encoded}
    assert len(length) == 1, "the prompts are made alike, so that the peer needs no padding"
    sees = torch.tensor([e.image_of_token for e in encoded])
    n_pictures = max(len(p.media) for p in prompts)
    ids = torch.tensor([e.ids for e in encoded])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.stack([torch.cat([model.pixels(m) for m in p.media]) for p in prompts]),
        "image_attention_mask": torch.nn.functional.one_hot(sees, n_pictures + 1)[:, :, 1:],
    }


def _make(folder: Path) -> None:
    import transformers
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.processors import TemplateProcessing

    vision: dict[str, Any] = {
        "embed_dim": 768, "image_size": 224, "patch_size": 32, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu",
    }  # fmt: skip
    perceiver = {
        "use_resampler": True, "resampler_n_latents": 64, "resampler_depth": 6, "resampler_n_heads": 12,
        "resampler_head_dim": 64, "qk_layer_norms_perceiver": True,
    }  # fmt: skip
    config = transformers.IdeficsConfig(
        vocab_size=VOCABULARY, additional_vocab_size=len(TOKENS), hidden_size=768, intermediate_size=3072,
        num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=2048, vision_config=vision,
        perceiver_config=perceiver, use_resampler=True, qk_layer_norms=True, alpha_type="vector",
        alpha_initializer="ones", cross_layer_interval=4, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.IdeficsForVisionText2Text(config).save_pretrained(folder / "theirs")
    listed = [*(f"w{i}" for i in range(VOCABULARY)), *TOKENS]
    fast = Tokenizer(WordLevel({word: i for i, word in enumerate(listed)}, unk_token="w0"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    fast.add_special_tokens(list(TOKENS))
    fast.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", VOCABULARY)])
    fast.save(str(folder / "theirs" / "tokenizer.json"))
    convert_idefics(folder / "theirs", folder / "ours")
