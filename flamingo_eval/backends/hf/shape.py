"""A model of transformers without its weights: name, processor, lengths of prompts and of the context, its record."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property, lru_cache
from typing import Any

from flamingo_eval.backends.choice import ModelChoice, args_text
from flamingo_eval.backends.hf.families import family_of
from flamingo_eval.backends.hf.folder import ModelFolder, open_folder
from flamingo_eval.backends.hf.opened import OpenedPictures
from flamingo_eval.backends.hf.processor import call_options, image_options, install, load_processor, template_digest
from flamingo_eval.backends.hf.reader import FRAMES, Reader
from flamingo_eval.backends.hf.vision import ADVICE, Pictures
from flamingo_eval.errors import PromptError, UsageError
from flamingo_eval.records import Prompt

UNKNOWN_CONTEXT = 1_000_000_000  # if neither configuration nor tokenizer states the context length
CONTINUE, AS_TURN = "continue", "turn"  # candidates behind the generation prompt, or as an assistant's turn
VIDEO, AS_FRAMES = "video", "frames"  # how clips are shown
LOADING: dict[str, Any] = {
    "attn_implementation": "",
    "device_map": "",
    "image_backend": "pil",
    "frames": FRAMES,
    "clips": "",
    "context": 0,
    "candidates": CONTINUE,
}


class HFShape:
    """A model without its weights: name, processor, lengths of prompts and of the context."""

    def __init__(self, choice: ModelChoice) -> None:
        """Raises CheckpointError, MissingDependency and UsageError for all problems before weights are read."""
        self.choice = choice
        self.folder: ModelFolder = open_folder(choice.target)
        self.family = family_of(self.folder.model_type)
        self.options: dict[str, Any] = {**LOADING, **{k: v for k, v in choice.args.items() if k in LOADING}}
        self._check_options()
        self.processor = load_processor(self.folder, str(self.options["image_backend"]))
        image_args = {k: v for k, v in choice.args.items() if k not in LOADING}
        self.image_args = image_options(self.processor, self.folder.model_type, image_args)
        at_call = call_options(self.processor, self.image_args)
        self.reader = Reader(self.processor, int(self.options["frames"]), at_call)
        self._why_frames = ""
        self._choose_clips()
        self.opened = OpenedPictures(self.reader.frames)

    def _check_options(self) -> None:
        if self.options["image_backend"] not in ("pil", "torchvision"):
            raise UsageError(f"--model-args image_backend={self.options['image_backend']}: give pil or torchvision.")
        if self.options["candidates"] not in (CONTINUE, AS_TURN):
            raise UsageError(f"--model-args candidates={self.options['candidates']}: give {CONTINUE} or {AS_TURN}.")
        if self.options["clips"] not in ("", VIDEO, AS_FRAMES):
            raise UsageError(f"--model-args clips={self.options['clips']}: give {VIDEO} or {AS_FRAMES}.")
        for name in ("frames", "context"):
            value = self.options[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < (1 if name == "frames" else 0):
                raise UsageError(f"--model-args {name}={value}: expected an integer of at least 1.")

    def _choose_clips(self) -> None:
        """Show clips as videos where the family takes them. Raises UsageError if that was asked for and cannot be."""
        if self.options["clips"] == AS_FRAMES:
            return
        why_not = self._why_frames = self.reader.show_clips_as_video()
        if why_not and self.options["clips"] == VIDEO:
            raise UsageError(
                f"--model-args clips={VIDEO}: {why_not}.",
                fix=f"{install('torchvision')}, or leave the option out: clips are then shown as frames."
                if "torchvision" in why_not
                else "Leave the option out: clips are then shown as frames.",
            )

    @property
    def name(self) -> str:
        """Its name in tables: the folder's name and the options that change its outputs."""
        args = args_text(self.choice.args)
        return f"{self.folder.name}[{args}]" if args else self.folder.name

    @property
    def default_protocol(self) -> str:
        """`chat` if the model has a chat template."""
        return "chat" if self.reader.has_template else "flamingo"

    @property
    def clips_shown(self) -> str:
        """How clips are shown, and why not as videos."""
        n = self.reader.frames
        if self.reader.clips_as_video:
            return f"as videos of {n} frames"
        return f"as {n} pictures" + (f" ({self._why_frames})" if self._why_frames else "")

    @property
    def context_length(self) -> int:
        """Context length in tokens."""
        if self.options["context"]:
            return int(self.options["context"])
        text = self.folder.config.get("text_config") or self.folder.config
        stated_lengths = [text.get("max_position_embeddings"), self.processor.tokenizer.model_max_length]
        lengths = [int(n) for n in stated_lengths if n and n < UNKNOWN_CONTEXT]
        return min(lengths, default=UNKNOWN_CONTEXT)

    @property
    def advice(self) -> str:
        """Advice for prompts that are too long."""
        return ADVICE

    @cached_property
    def _counting(self) -> Pictures:
        return Pictures(self.reader, None, self.family, self.opened)

    @cached_property
    def _counts_by_known_pictures(self) -> bool:
        """Whether a prompt's tokens follow from its pictures' known fields, so that no picture is opened again."""
        from flamingo_eval.backends.hf.check import PROMPT

        return not self.family.plain and self._same_tokens(PROMPT)

    @cached_property
    def _counts_by_known_clips(self) -> bool:
        from flamingo_eval.backends.hf.check import CLIPS

        return not self.family.plain and self._same_tokens(CLIPS)

    def _same_tokens(self, prompt: Prompt) -> bool:
        try:
            known, opened = self._counting.read(prompt), self._counting.read_opened(prompt)
        except PromptError:
            return False
        return known.ids.tolist() == opened.ids.tolist()

    def count_tokens(self, prompt: Prompt) -> int:
        """Number of tokens of a prompt, including pictures. Needs no weights; pictures are opened once."""
        by_known = self._counts_by_known_clips if self.reader.shows_video(prompt) else self._counts_by_known_pictures
        read = self._counting.read if by_known else self._counting.read_opened
        return len(read(prompt).ids)

    def count_continuation(self, text: str) -> int:
        """Tokens of a candidate."""
        return len(self.reader.continuation(text))

    @cached_property
    def sha256(self) -> str:
        """Hash of all files that decide outputs, and of the options."""
        options = {k: v for k, v in self.options.items() if v != LOADING[k]}
        if self.reader.clips_as_video:
            options["clips"] = VIDEO
        fields = {"files": self.folder.digests, "args": {**self.image_args, **options}}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """Its entries in a run's record."""
        import transformers

        digests = self.folder.digests
        return {
            "backend": "hf",
            "family": self.folder.model_type,
            "args": dict(self.choice.args),
            "image_args": dict(self.image_args),
            "image_backend": "pil" if _by_pillow(self.processor) else "torchvision",
            "frames": self.options["frames"],
            "clips": "shown as videos" if self.reader.clips_as_video else "shown as frames",
            "processor": type(self.processor).__name__,
            "processor_sha256": {n: digests[n] for n in digests if "processor" in n},
            "chat_template_sha256": template_digest(self.processor),
            "quantization": self.folder.config.get("quantization_config"),
            "transformers": transformers.__version__,
            "candidates": "continue the generation prompt"
            if self.options["candidates"] == CONTINUE
            else "an assistant's turn of the chat template",
        }


@lru_cache(maxsize=2)
def hf_shape(choice: ModelChoice) -> HFShape:
    """The shape of a model, read once per process."""
    return HFShape(choice)


def _by_pillow(processor: Any) -> bool:
    return getattr(processor.image_processor, "backend", "pil") == "pil"
