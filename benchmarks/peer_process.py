"""OpenFlamingo under the benchmark. Runs in its own environment (peer_env.py), asked by JSON lines on standard input.

    build FOLDER    random weights, saved there for conversion, so that both sides have the same
    load FOLDER     the model of a folder that was built
    generate        batches of prompts through its own preprocessing and `generate`, as its evaluation script does
    rank            one prompt's candidates, class by class on the prompt's cache, as its evaluation script does

Nothing of flamingo_eval is imported here.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import torch

# torchvision's compiled operators do not match this torch; their names are all that the imports below need
for operator in (
    "nms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
    "qnms(Tensor a, Tensor b, float c) -> Tensor",
):
    torch.library.define(f"torchvision::{operator.split('(')[0]}", operator[operator.index("(") :])

from open_flamingo.src.factory import create_model_and_transforms  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import OPTConfig, OPTForCausalLM  # noqa: E402


def build(folder: Path) -> dict[str, object]:
    """Make a language model, a vision tower and what joins them, all random; save the three as OpenFlamingo would."""
    torch.manual_seed(0)
    vocabulary = len(json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"])
    config = OPTConfig(vocab_size=vocabulary, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    OPTForCausalLM(config).save_pretrained(folder / "language")
    model, _, _ = made(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attn_gate", "ff_gate")):
                parameter.fill_(0.5)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    weights = {n: w.clone() for n, w in model.state_dict().items() if n in trained}
    torch.save({"model_state_dict": weights}, folder / "checkpoint.pt")
    torch.save({f"visual.{n}": w for n, w in model.vision_encoder.state_dict().items()}, folder / "vision.pt")
    return {}


def made(folder: Path):
    torch.manual_seed(1)
    return create_model_and_transforms(
        "ViT-B-32", None, str(folder / "language"), str(folder / "tokenizer"), cross_attn_every_n_layers=1
    )


class Peer:
    """A loaded model, and what its evaluation does with it."""

    def __init__(self, folder: Path) -> None:
        self.model, self.pixels, self.tokenizer = made(folder)
        saved = torch.load(folder / "checkpoint.pt", weights_only=True)["model_state_dict"]
        _, unexpected = self.model.load_state_dict(saved, strict=False)
        assert not unexpected, unexpected
        vision = torch.load(folder / "vision.pt", weights_only=True)
        self.model.vision_encoder.load_state_dict({n.removeprefix("visual."): w for n, w in vision.items()})
        self.model.eval()
        self.tokenizer.padding_side = "left"

    def _vision(self, batch: list[list[str]]) -> torch.Tensor:
        return torch.stack(
            [torch.stack([self.pixels(Image.open(p).convert("RGB")) for p in pictures]) for pictures in batch]
        )[:, :, None]

    @torch.inference_mode()
    def generate(self, texts: list[str], pictures: list[list[str]], batch: int, beams: int, new: int) -> list[str]:
        answers = []
        for first in range(0, len(texts), batch):
            some = slice(first, first + batch)
            read = self.tokenizer(texts[some], padding="longest", return_tensors="pt")
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
        read = self.tokenizer([text], return_tensors="pt")
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
            ids = self.tokenizer(name, add_special_tokens=False, return_tensors="pt")["input_ids"]
            past, row = whole.past_key_values, whole.logits[0, -1].log_softmax(-1)
            total = 0.0
            for i in range(ids.shape[1]):  # token by token, as its cached path does
                total += float(row[ids[0, i]])
                out = self.model(
                    vision_x=None,
                    lang_x=ids[:, i : i + 1],
                    past_key_values=past,
                    use_cache=True,
                    clear_conditioned_layers=False,
                )
                past, row = out.past_key_values, out.logits[0, -1].log_softmax(-1)
            scores.append(total)
        self.model.uncache_media()
        return scores


def main() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # the model prints; replies must stay JSON
    peer = None
    for line in sys.stdin:
        asked = json.loads(line)
        what = asked.pop("do")
        reply: dict[str, object] = {}
        if what == "threads":
            torch.set_num_threads(asked["n"])
        elif what == "build":
            reply = build(Path(asked["folder"]))
        elif what == "load":
            peer = Peer(Path(asked["folder"]))
        else:
            wall, cpu = time.perf_counter(), time.process_time()
            assert peer is not None
            reply["answers"] = peer.generate(**asked) if what == "generate" else peer.rank(**asked)
            reply |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        reply["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
