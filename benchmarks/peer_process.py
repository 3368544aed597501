"""OpenFlamingo in its own environment (peer_env.py); reads requests as JSON lines on standard input.

    make            a model of the requested shapes, on a device, with weights generated from names (invented.py)
    generate        batches of prompts with its own preprocessing and `generate`, like its evaluation script
    rank            one prompt's candidates, class by class on the prompt's cache, like its evaluation script

Nothing of flamingo_eval is imported here.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from invented import invented  # type: ignore[import-not-found]  # run as a script, beside it

# the host's version may be too new for this transformers
HIDDEN = ("accelerate", "peft", "jax", "flax", "tensorflow")


class _Finder(PathFinder):
    """Finds modules on the path, except the blocked ones."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if fullname.partition(".")[0] in HIDDEN else super().find_spec(fullname, path, target)


def _name_operators() -> None:
    """torchvision's compiled operators may not match this torch; the imports below need only their names."""
    spec = find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    try:
        library = next(Path(spec.origin).parent.glob("_C*.so"))
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]  # of torch
    except (OSError, StopIteration):
        for operator in (
            "nms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
            "qnms(Tensor a, Tensor b, float c) -> Tensor",
        ):
            torch.library.define(f"torchvision::{operator.split('(')[0]}", operator[operator.index("(") :])


sys.meta_path = [_Finder if finder is PathFinder else finder for finder in sys.meta_path]
_name_operators()

from open_flamingo.src import factory  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import MptConfig, MptForCausalLM, OPTConfig, OPTForCausalLM  # noqa: E402

LANGUAGE = {"opt": (OPTConfig, OPTForCausalLM), "mpt": (MptConfig, MptForCausalLM)}


def made(vision: str, language: str, settings: dict[str, Any], every: int, tokenizer: str) -> Any:
    """The peer's own factory; its language model comes from a configuration instead of a folder of weights."""
    config, kind = LANGUAGE[language]
    factory.AutoModelForCausalLM = SimpleNamespace(from_pretrained=lambda *_, **__: kind(config(**settings)))
    return factory.create_model_and_transforms(vision, None, "", tokenizer, cross_attn_every_n_layers=every)


class Peer:
    """A model, used as in its evaluation."""

    @torch.no_grad()
    def __init__(self, device: str, dtype: str, **shapes: Any) -> None:
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        with (
            self.device
        ):  # the default initialisation draws billions of numbers that are then replaced: not on the host
            torch.set_default_dtype(self.dtype)
            self.model, self.pixels, self.tokenizer = made(**shapes)
            torch.set_default_dtype(torch.float32)
        self.model.to(self.device, self.dtype).eval().requires_grad_(False)
        self.shapes = {name: tuple(parameter.shape) for name, parameter in self.model.named_parameters()}
        for name, parameter in self.model.named_parameters():
            parameter.copy_(invented(name, self.shapes[name], self.device))
        self.tokenizer.padding_side = "left"
        self.opening = 0.0  # seconds in the last request

    def _vision(self, batch: list[list[str]]) -> torch.Tensor:
        began = time.perf_counter()
        rows = [torch.stack([self.pixels(Image.open(p).convert("RGB")) for p in pictures]) for pictures in batch]
        self.opening += time.perf_counter() - began
        return torch.stack(rows)[:, :, None].to(self.device, self.dtype)

    @torch.inference_mode()
    def generate(self, texts: list[str], pictures: list[list[str]], batch: int, beams: int, new: int) -> list[str]:
        answers = []
        for first in range(0, len(texts), batch):
            some = slice(first, first + batch)
            read = self.tokenizer(texts[some], padding="longest", return_tensors="pt").to(self.device)
            out = self.model.generate(
                self._vision(pictures[some]),
                read["input_ids"],
                read["attention_mask"],
                num_beams=beams,
                max_new_tokens=new,
                min_new_tokens=0,
                length_penalty=0.0,
                pad_token_id=0,
            )
            answers += self.tokenizer.batch_decode(out[:, read["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    @torch.inference_mode()
    def rank(self, text: str, pictures: list[str], names: list[str]) -> list[float]:
        read = self.tokenizer([text], return_tensors="pt").to(self.device)
        self.model.cache_media(input_ids=read["input_ids"], vision_x=self._vision([pictures]))
        whole = self.model(
            vision_x=None,
            lang_x=read["input_ids"],
            attention_mask=read["attention_mask"],
            clear_conditioned_layers=False,
            use_cache=True,
        )
        scores = []
        for name in names:
            ids = self.tokenizer(name, add_special_tokens=False, return_tensors="pt")["input_ids"].to(self.device)
            past, row = whole.past_key_values, whole.logits[0, -1].float().log_softmax(-1)
            total = 0.0
            for i in range(ids.shape[1]):  # token by token, like its cached path
                total += float(row[ids[0, i]])
                out = self.model(
                    vision_x=None,
                    lang_x=ids[:, i : i + 1],
                    past_key_values=past,
                    use_cache=True,
                    clear_conditioned_layers=False,
                )
                past, row = out.past_key_values, out.logits[0, -1].float().log_softmax(-1)
            scores.append(total)
        self.model.uncache_media()
        return scores


def main() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # the model prints; replies must stay JSON
    peer = None
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("do")
        reply: dict[str, object] = {}
        if what == "threads":
            torch.set_num_threads(request["n"])
        elif what == "make":
            peer = Peer(**request)
            reply["shapes"] = peer.shapes
        else:
            wall, cpu = time.perf_counter(), time.process_time()
            assert peer is not None
            peer.opening = 0.0
            reply["answers"] = peer.generate(**request) if what == "generate" else peer.rank(**request)
            reply |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            reply["opening"] = peer.opening
        reply["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
