"""`hf:` against a plain loop over transformers' own processor and `generate`: same weights, prompts and greedy text.

Random Idefics3 shapes: SigLIP-B/16 at 256 x 256, pixel shuffle by 2 (64 visual tokens per picture), decoder 12 x 768.
The loop is like usual evaluation scripts: batches of 8, padded on the left, pixels of all pictures of every prompt.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
import transformers
from PIL import Image as PillowImage
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from flamingo_eval import DecodeSpec, Image, Prompt, Turn, load_model
from flamingo_eval.backends.hf.model import HFModel

SIDE, SEQUENCE, BATCH = 256, 64, 8
SPECIAL = (
    "<|im_end|>",
    "<pad>",
    "<|im_start|>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type']=='text' %}{{ c['text'] }}{% else %}<image>{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GREEDY = DecodeSpec(beams=1, max_new_tokens=5)
TIMED = 3 * BATCH  # number of candidates that are timed in the plain loop; its batches cost the same
SUPPORT = 37  # pictures that demonstrations are drawn from
LONG = 16  # shots; from here on a batch of the plain loop takes minutes, and is read once for drawn and fixed prompts
READ_IN_FULL = 1  # queries of fixed demonstrations whose texts are compared with ours without a prefix, there
QUESTION = "What is it?"
NAMES = tuple(f" thing {a} of {b}" for a in range(10) for b in range(10))


def hf(shots: Sequence[int], queries: int, repeats: int, clock: str) -> None:
    """Print the table. `clock`: wall or cpu. Both sides read a prompt once before the measurement."""
    now = CLOCKS[clock]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save(folder / "model")
        model = load_model(f"hf:{folder / 'model'}")
        assert isinstance(model, HFModel)
        support = _pictures(folder, SUPPORT, "support")
        model.generate([Prompt([Turn("user", [p, "?"])]) for p in support], replace(GREEDY, max_new_tokens=1))
        _generated(model, _prompts(support, support[:1], 0, False))
        print(f"Idefics3 shapes, float32, {queries} queries, batch {BATCH}, transformers {transformers.__version__}\n")
        print("| what | ours, queries/s | plain loop, queries/s | ratio | same |\n|---|--:|--:|--:|--:|", flush=True)
        for n in shots:
            drawn = _prompts(support, _pictures(folder, queries * repeats, f"{n} drawn"), n, False)
            plain = _drawn(now, model, f"{n} shots, drawn for each query", drawn, queries)
            if n == max(shots) > 0:
                width = queries if n < LONG else BATCH
                fixed = _prompts(support, _pictures(folder, width * repeats + 1, f"{n} fixed"), n, True)
                model.generate(fixed[-1:], GREEDY)  # demonstrations are read here
                what = f"{n} shots, the same for all"
                if n < LONG:
                    _drawn(now, model, what, fixed[:-1], queries)
                else:
                    _fixed(now, model, what, fixed[:-1], plain)
        if min(shots) < LONG:
            n = min(4, max(shots))
            _ranking(now, model, n, _prompts(support, _pictures(folder, repeats, "ranked"), n, False), repeats)
            _overhead(now, model, _prompts(support, _pictures(folder, queries, "bare"), 0, False))


def _drawn(now: Callable[[], float], model: HFModel, what: str, prompts: Sequence[Prompt], queries: int) -> float:
    """Both sides, `queries` prompts at a time. -> queries a second of the plain loop"""
    ours, plain, same = [], [], 0
    for some in _batches(prompts, queries):  # queries' pictures are new each time
        seconds, texts = _timed(now, partial(model.generate, some, GREEDY))
        others, expected = _timed(now, partial(_generated, model, some))
        ours.append(len(some) / seconds)
        plain.append(len(some) / others)
        same += sum(a == b for a, b in zip(texts, expected, strict=True))
    _print(what, median(ours), median(plain), f"{same}/{len(prompts)}")
    return median(plain)


def _fixed(now: Callable[[], float], model: HFModel, what: str, prompts: Sequence[Prompt], plain: float) -> None:
    """Our side, against the loop's `plain` queries a second with drawn demonstrations, which cost it the same."""
    ours, texts = [], []
    for some in _batches(prompts, BATCH):
        seconds, answers = _timed(now, partial(model.generate, some, GREEDY))
        ours.append(len(some) / seconds)
        texts += answers
    in_full = model.generate([replace(p, common_prefix=False) for p in prompts[:READ_IN_FULL]], GREEDY)
    same = sum(a == b for a, b in zip(texts, in_full, strict=False))
    _print(what, median(ours), plain, f"{same}/{len(in_full)} as ours in full")


def _batches(prompts: Sequence[Prompt], n: int) -> Iterator[Sequence[Prompt]]:
    for start in range(0, len(prompts), n):
        yield prompts[start : start + n]


def _print(what: str, ours: float, plain: float, same: str) -> None:
    print(f"| {what} | {ours:.3g} | {plain:.3g} | {ours / plain:.1f} | {same} |", flush=True)


def _ranking(now: Callable[[], float], model: HFModel, shots: int, prompts: Sequence[Prompt], repeats: int) -> None:
    """All candidates of a query, compared with one forward pass per candidate in batches, of which some are timed."""
    ours, plain, same = [], [], 0
    for prompt in prompts[:repeats]:
        seconds, rows = _timed(now, partial(model.score, [prompt], [NAMES]))
        others, sums = _timed(now, partial(_scored, model, prompt, NAMES[:TIMED]))
        ours.append(1 / seconds)
        plain.append(TIMED / len(NAMES) / others)
        same += max(abs(a - b) for a, b in zip(rows[0][:TIMED], sums, strict=True)) < 1e-3
    rates = median(ours), median(plain)
    print(
        f"| ranking {len(NAMES)} candidates, {shots} shots | {rates[0]:.2f} | {rates[1]:.4f} "
        f"| {rates[0] / rates[1]:.1f} | {same}/{repeats} within 1e-3 |",
        flush=True,
    )


def _overhead(now: Callable[[], float], model: HFModel, prompts: Sequence[Prompt]) -> None:
    """Time outside the model's forward passes and its vision encoder, divided by the time in them."""
    inside = 0.0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal inside
            seconds, result = _timed(now, partial(method, *args, **options))
            inside += seconds
            return result

        return call

    network = model.network
    with pytest.MonkeyPatch.context() as patch:
        for name in ("features", "prefill", "extend"):
            patch.setattr(network, name, timed(getattr(network, name)))
        seconds, _ = _timed(now, partial(model.generate, prompts, GREEDY))
    print(f"\noverhead over the forward passes, 0 shots: {100 * (seconds - inside) / inside:.1f} %", flush=True)


def _timed(now: Callable[[], float], work: Callable[[], Any]) -> tuple[float, Any]:
    began = now()
    result = work()
    return now() - began, result


def _inputs(model: HFModel, prompts: Sequence[Prompt], more: Sequence[str] = ("",)) -> Any:
    texts = [model.shape.reader.text(p) + m for p in prompts for m in more]
    pictures = [
        [PillowImage.open(m.path).convert("RGB") for m in p.media if isinstance(m, Image)]
        for p in prompts
        for _ in more
    ]
    return model.shape.processor(
        text=texts, images=pictures, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
    )


@torch.inference_mode()
def _generated(model: HFModel, prompts: Sequence[Prompt]) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(prompts), BATCH):
        inputs = _inputs(model, prompts[start : start + BATCH])
        out = model.network.model.generate(**inputs, do_sample=False, max_new_tokens=GREEDY.max_new_tokens)
        ends = out[:, inputs["input_ids"].shape[1] :]
        texts += model.shape.processor.tokenizer.batch_decode(ends, skip_special_tokens=True)
    return texts


@torch.inference_mode()
def _scored(model: HFModel, prompt: Prompt, names: Sequence[str]) -> list[float]:
    sums: list[float] = []
    for start in range(0, len(names), BATCH):
        some = names[start : start + BATCH]
        inputs = _inputs(model, [prompt], some)
        log_probs = model.network.model(**inputs).logits.log_softmax(-1)
        for row, name in enumerate(some):
            ids = torch.tensor(model.shape.reader.continuation(name))
            sums.append(float(log_probs[row, -len(ids) - 1 : -1].gather(1, ids[:, None]).double().sum()))
    return sums


def _prompts(support: Sequence[Image], query_pictures: Sequence[Image], shots: int, fixed: bool) -> list[Prompt]:
    prompts = []
    for q, picture in enumerate(query_pictures):
        turns = []
        for s in range(shots):
            turns.append(
                Turn("user", [support[(s if fixed else 7 * q + 5 * s) % len(support)], f"{QUESTION[:-1]}, {s}?"])
            )
            turns.append(Turn("assistant", [f"a thing of kind {s}"]))
        prompts.append(Prompt([*turns, Turn("user", [picture, QUESTION])], common_prefix=fixed))
    return prompts


def _pictures(folder: Path, n: int, name: str) -> list[Image]:
    images = []
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    for i in range(n):
        noise = torch.randint(0, 256, (16, 16, 3), generator=generator, dtype=torch.uint8).numpy()
        PillowImage.fromarray(noise).resize((SIDE, SIDE)).save(folder / f"{name}{i}.png")
        images.append(Image(folder / f"{name}{i}.png"))
    return images


def _save(folder: Path) -> None:
    """Config classes, random weights, a byte-level tokenizer that knows the words of the prompts."""
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    words = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    fast.train_from_iterator(
        [QUESTION, f"{QUESTION[:-1]}, 0?", "user\n", "assistant\na thing of kind 0", *NAMES], words
    )
    fast.add_special_tokens(list(SPECIAL))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token=SPECIAL[0], pad_token=SPECIAL[1], padding_side="left"
    )
    size = {"longest_edge": SIDE}
    images = transformers.Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=SEQUENCE)
    processor.chat_template = TEMPLATE
    vision = {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": SIDE, "patch_size": 16,
    }  # fmt: skip
    text = transformers.LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=12, vocab_size=len(tokenizer), max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    config = transformers.Idefics3Config(
        vision_config=vision, text_config=text, scale_factor=2, tie_word_embeddings=False,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
