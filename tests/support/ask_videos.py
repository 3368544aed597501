"""python -m tests.support.ask_videos FOLDER...: `hf:` and transformers itself on the same prompts of clips, as JSON.

Runs in a process of its own, the only one that sees torchvision.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.tiny_video import import_torchvision

import_torchvision()

import numpy as np  # noqa: E402 - transformers looks for torchvision when it is imported
import torch  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

from flamingo_eval import DecodeSpec, Prompt, Turn, Video, load_model  # noqa: E402
from flamingo_eval.backends.hf.check import FILM  # noqa: E402
from flamingo_eval.backends.hf.embedding import HFEncoder  # noqa: E402
from flamingo_eval.backends.hf.model import HFModel  # noqa: E402
from flamingo_eval.data.videos import spread_frames  # noqa: E402

CANDIDATES = (" a dog", " kite")
FRAMES = 8
GREEDY = DecodeSpec(beams=1, max_new_tokens=8)
PROMPTS = (
    Prompt([
        Turn("user", [Video(FILM, 0, 1), "What?"]), Turn("assistant", ["a kite"]),
        Turn("user", [Video(FILM, 1, 2), "What is it?"]),
    ]),
    Prompt([Turn("user", [Video(FILM, 0.5, 1.6), "What?"])]),
)  # fmt: skip


class Original:
    """transformers' own processor and model, asked with whole prompts."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def inputs(self, prompt: Prompt, more: str = "") -> dict[str, Any]:
        """Frames at the middle of eight equal parts, told by their numbers among sixteen."""
        messages, videos, metadata = [], [], []
        for turn in prompt.turns:
            content: list[dict[str, str]] = []
            for part in turn.parts:
                if isinstance(part, Video):
                    frames, seconds = spread_frames(part, FRAMES)
                    videos.append(np.stack([np.array(frame) for frame in frames]))
                    fps = 2 * FRAMES / seconds
                    numbers = list(range(1, 2 * FRAMES, 2))
                    metadata.append({
                        "total_num_frames": 2 * FRAMES, "fps": fps, "duration": seconds, "frames_indices": numbers,
                    })  # fmt: skip
                    content.append({"type": "video"})
                else:
                    content.append({"type": "text", "text": str(part)})
            messages.append({"role": turn.role, "content": content})
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        out = self.processor(
            text=[text + more], videos=videos, video_metadata=metadata, do_sample_frames=False, return_tensors="pt",
            add_special_tokens=False,
        )  # fmt: skip
        return {name: value for name, value in out.items() if name != "video_metadata"}

    @torch.inference_mode()
    def text(self, prompt: Prompt) -> str:
        inputs = self.inputs(prompt)
        ids = self.model.generate(**inputs, do_sample=False, max_new_tokens=GREEDY.max_new_tokens)
        text: str = self.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def log_likelihoods(self, prompt: Prompt) -> list[float]:
        n = self.inputs(prompt)["input_ids"].shape[1]
        sums = []
        for candidate in CANDIDATES:
            inputs = self.inputs(prompt, candidate)
            log_probs = self.model(**inputs).logits[0, n - 1 : -1].log_softmax(-1)
            sums.append(float(log_probs.gather(1, inputs["input_ids"][0, n:, None]).double().sum()))
        return sums


def main(folders: Sequence[str]) -> None:
    """Print one line of JSON per folder."""
    for folder in folders:
        model = load_model(f"hf:{folder}", device="cpu", dtype="float32")
        assert isinstance(model, HFModel)
        original = Original(Path(folder))
        reversed_clips = replace(PROMPTS[0], turns=(
            Turn("user", [Video(FILM, 1, 2), "What?"]), PROMPTS[0].turns[1],
            Turn("user", [Video(FILM, 0, 1), "What is it?"]),
        ))  # fmt: skip
        got = {
            "ids": [list(model.encode(p).ids) for p in PROMPTS],
            "tokens": [model.shape.count_tokens(p) for p in PROMPTS],
            "texts": model.generate(PROMPTS, GREEDY),
            "alone": [model.generate([p], GREEDY)[0] for p in PROMPTS],
            "scores": model.score(PROMPTS, [CANDIDATES] * len(PROMPTS)),
            "reversed": model.score([reversed_clips], [CANDIDATES])[0],
        }
        clips_encoded = model.engine.stats["pictures_encoded"]
        vectors = HFEncoder(model).embed_media([Video(FILM, 0, 1), Video(FILM, 1, 2)])
        expected = {
            "ids": [original.inputs(p)["input_ids"][0].tolist() for p in PROMPTS],
            "texts": [original.text(p) for p in PROMPTS],
            "scores": [original.log_likelihoods(p) for p in PROMPTS],
        }
        about = {"record": model.record, "encoded": clips_encoded, "vectors": vectors.tolist()}
        print(json.dumps({"got": got, "expected": expected, **about}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
