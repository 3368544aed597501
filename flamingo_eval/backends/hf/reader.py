"""Prompts -> token ids, with the model's own processor: turns by its chat template, other prompts as one text.

In one text a picture is written as in the chat template, and an end-of-chunk mark is a line break, because these models
have no token for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flamingo_eval.backends.hf.clips import Clip, blank_clip, video_inputs
from flamingo_eval.backends.hf.pictures import Layout, PictureFields, StandIn, blank_pictures
from flamingo_eval.backends.hf.processor import chat_template
from flamingo_eval.errors import PromptError
from flamingo_eval.records import EndOfChunk, Part, Prompt, Video

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from torch import Tensor

END_OF_CHUNK = "\n"
A_LIST = "{'type': 'text'"  # how a template prints a list that it takes for text
NOT_INPUTS = ("input_ids", "attention_mask", "labels", "video_metadata")
PLACEHOLDER = (96, 64)  # width and height of placeholders that are processed
OPEN = "\u2403"  # a character that no template writes: marks where an open turn continues
FRAMES = 8  # of a clip


class TokenIds(tuple[int, ...]):
    """A prompt's token ids, including those of its pictures; `ids` is the same tuple."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids."""
        return self


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt as input of the model's forward pass.

    `ids` int[S]; `by_token`: further inputs with one entry per token (int[S] each); `by_picture`: the processor's
    output for the pictures: grids, sizes, pixels.
    """

    ids: Tensor
    by_token: Mapping[str, Tensor]
    by_picture: Mapping[str, Tensor]


class Reader:
    """Turns prompts into the model's inputs."""

    def __init__(self, processor: Any, frames: int = FRAMES, image_options: Mapping[str, Any] | None = None) -> None:
        """`frames` of a clip; `image_options`: options of every call of the processor.

        Frames are shown as pictures one after another, or with `clips_as_video` as one video.
        """
        self.processor, self.frames, self.clips_as_video = processor, frames, False
        self.call: dict[str, Any] = {"images_kwargs": dict(image_options)} if image_options else {}
        self.tokenizer = processor.tokenizer
        self.has_template = bool(chat_template(processor))
        self.image_tag = self._image_tag()
        self.video_tag = ""
        self._reserved = tuple(dict.fromkeys(t for t in self._special_tokens() if t.strip()))

    def _special_tokens(self) -> list[str]:
        added_tokens = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = [str(token) for token in added_tokens.values() if getattr(token, "special", False)]
        media_tokens = [
            getattr(self.processor, name, None)
            for name in ("image_token", "boi_token", "image_placeholder_token", "video_token")
        ]
        return [*self.tokenizer.all_special_tokens, *special, *(t for t in media_tokens if isinstance(t, str))]

    def _image_tag(self) -> str:
        """The chat template's text for a picture; without a template, the processor's own token."""
        own_token = next(
            (t for t in (getattr(self.processor, n, None) for n in ("boi_token", "image_token")) if isinstance(t, str)),
            "<image>",
        )
        tag = self._in_template("image") if self.has_template else ""
        return (
            tag if any(token in tag for token in (own_token, *self._special_tokens()) if token.strip()) else own_token
        )

    def _in_template(self, kind: str) -> str:
        """The chat template's text for an image or a video; "" if it rejects one."""
        start_mark, end_mark = "\u2402", "\u2403"  # characters that no template uses
        parts = [{"type": "text", "text": start_mark}, {"type": kind}, {"type": "text", "text": end_mark}]
        try:
            text = self._rendered([{"role": "user", "content": parts}])
        except PromptError:
            return ""
        start, end = text.find(start_mark), text.find(end_mark)
        return text[start + len(start_mark) : end] if 0 <= start < end else ""

    def show_clips_as_video(self) -> str:
        """Show clips as videos from now on. -> why this is impossible, "" if it is not."""
        token = getattr(self.processor, "video_token", None)
        if not isinstance(token, str) or not hasattr(self.processor, "video_processor"):
            return "this family has no video processor"
        if not callable(self.processor.video_processor):
            packages = "torchvision and num2words" if "SmolVLM" in type(self.processor).__name__ else "torchvision"
            return f"its video processor needs {packages}"
        tag = self._in_template("video") if self.has_template else token
        if token not in tag:
            return "its chat template shows no video"
        self.video_tag, self.clips_as_video = tag, True
        try:
            for n in (1, 2):
                self.process_clips([blank_clip(self.frames, *PLACEHOLDER)] * n)
        except PromptError as error:
            self.clips_as_video = False
            return str(error).splitlines()[0]
        return ""

    def shows_video(self, prompt: Prompt) -> bool:
        """Whether a prompt has clips that are shown as videos."""
        return self.clips_as_video and any(isinstance(m, Video) for m in prompt.media)

    def text(self, prompt: Prompt) -> str:
        """The prompt as the tokenizer gets it, one tag a picture. Raises PromptError.

        Turns that end in an assistant's leave it open, to be continued; others end in the generation prompt.
        """
        for part in prompt.parts:
            self._check(part, prompt)
        if not prompt.turns:
            return "".join(self._written(part) for part in prompt.parts)
        if not self.has_template:
            raise PromptError(
                f"{prompt.id or 'prompt'}: this model has no chat template, so it cannot read turns.",
                fix="Use a protocol of interleaved style, such as --protocol flamingo.",
            )
        messages = [{"role": t.role, "content": self._content(t.parts)} for t in prompt.turns]
        if prompt.turns[-1].role != "assistant":
            return self._rendered(messages)
        messages[-1] = {"role": "assistant", "content": [*self._content(prompt.turns[-1].parts), _text(OPEN)]}
        text = self._rendered(messages, generation=False)
        if text.count(OPEN) != 1:
            raise PromptError("the model's chat template does not write an assistant's turn as it is given.")
        opened = text[: text.index(OPEN)]
        return opened if any(prompt.turns[-1].parts) else opened.rstrip(" ")

    @cached_property
    def turn_space(self) -> str:
        """The spaces that the chat template puts before what an assistant says. Raises PromptError."""
        messages = [{"role": role, "content": [_text(OPEN)]} for role in ("user", "assistant")]
        opening = self._rendered(messages, generation=False).split(OPEN)[1]
        return opening[len(opening.rstrip(" ")) :]

    def process(self, pictures: Sequence[PillowImage.Image]) -> tuple[Read, dict[str, Any]]:
        """A prompt of opened pictures only: the model's inputs, and the image processor's output."""
        read, images, _ = self._with(self.image_tag * len(pictures), False, pictures)
        return read, images.returned

    def process_clips(self, clips: Sequence[Clip]) -> tuple[Read, dict[str, Any]]:
        """A prompt of clips only: the model's inputs, and the video processor's output."""
        read, _, videos = self._with(self.video_tag * len(clips), False, clips=clips)
        return read, videos.returned

    def read_opened(self, prompt: Prompt, pictures: Sequence[PillowImage.Image], clips: Sequence[Clip] = ()) -> Read:
        """A prompt with opened pictures, and clips if they are shown as videos, processed by the processor itself."""
        return self._with(self.text(prompt), not prompt.turns, pictures, clips)[0]

    def read(
        self,
        prompt: Prompt,
        pictures: Sequence[PictureFields],
        layout: Layout,
        clips: Sequence[PictureFields] = (),
        clip_layout: Layout | None = None,
    ) -> Read:
        """A prompt without pixels, from the known outputs for its pictures and clips; none is opened."""
        images = layout.joined(pictures) if pictures else None
        videos = clip_layout.joined(clips) if clips and clip_layout else None
        blanks = blank_pictures(len(pictures)), [blank_clip(2)] * len(clips)
        return self._with(self.text(prompt), not prompt.turns, *blanks, images, videos)[0]

    def _with(
        self,
        text: str,
        special_tokens: bool,
        pictures: Sequence[PillowImage.Image] = (),
        clips: Sequence[Clip] = (),
        known_images: Mapping[str, Any] | None = None,
        known_videos: Mapping[str, Any] | None = None,
    ) -> tuple[Read, StandIn, StandIn]:
        """The inputs, and the stand-ins of the image and the video processor, which know what these returned."""
        # nested, one list per prompt: otherwise LLaVA-OneVision cuts every picture into crops
        media = {"images": [list(pictures)] if pictures else None, **video_inputs(clips)}
        image_processor, video_processor = self.processor.image_processor, getattr(self.processor, "video_processor", 0)
        images, videos = StandIn(image_processor, known_images), StandIn(video_processor, known_videos)
        self.processor.image_processor = images
        if clips:
            self.processor.video_processor = videos
        try:
            out = self.processor(
                text=[text], add_special_tokens=special_tokens, return_tensors="pt", **media, **self.call
            )
        except Exception as error:  # of the family's own code: PaliGemma takes no text alone, some one picture only
            what = f"{_number(len(clips), 'clip')} and " if clips else ""
            raise PromptError(
                f"{type(self.processor).__name__} rejects a prompt with {what}{_number(len(pictures), 'picture')}: "
                f"{_first_line(error)}",
                fix="Ask this model with another number of --shots, or use another model.",
            ) from error
        finally:
            self.processor.image_processor = image_processor
            if clips:
                self.processor.video_processor = video_processor
        return _divided(out, {**images.fields, **videos.fields}), images, videos

    def continuation(self, text: str) -> tuple[int, ...]:
        """Ids of text that continues a prompt, exactly as given."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokenizer's own end token."""
        return () if self.tokenizer.eos_token_id is None else (self.tokenizer.eos_token_id,)

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids as text, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _rendered(self, messages: list[dict[str, Any]], generation: bool = True) -> str:
        """The template's text. Templates that expect text, not a list, in turns without pictures get text there."""
        import jinja2

        error: Exception | None = None
        template: str | None = chat_template(self.processor)
        if any(part["type"] == "video" for message in messages for part in message["content"]):
            own = getattr(self.processor, "chat_template", None)
            template = None if own else template  # SmolVLM's processor has another one for videos
        for some in (messages, [_plain(message) for message in messages]):
            try:
                text: str = self.processor.apply_chat_template(
                    some,
                    chat_template=template,
                    add_generation_prompt=generation,
                    tokenize=False,
                )
            except (jinja2.TemplateError, TypeError, KeyError, ValueError) as own_error:
                error = error or own_error
                continue
            if A_LIST not in text:
                return text
        raise PromptError(f"the model's chat template rejects the turns: {error or 'it prints them as a list'}.")

    def _written(self, part: Part) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, EndOfChunk):
            return END_OF_CHUNK
        return self.video_tag if self._as_video(part) else self.image_tag * self._shown(part)

    def _shown(self, part: Part) -> int:
        """Number of pictures for a part."""
        return self.frames if isinstance(part, Video) else 1

    def _as_video(self, part: Part) -> bool:
        return self.clips_as_video and isinstance(part, Video)

    def _content(self, parts: Sequence[Part]) -> list[dict[str, str]]:
        content: list[dict[str, str]] = []
        for part in parts:
            if isinstance(part, str):
                content.append(_text(part))
            elif self._as_video(part):
                content.append({"type": "video"})
            else:
                content += [{"type": "image"}] * self._shown(part)
        return content

    def _check(self, part: Part, prompt: Prompt) -> None:
        """Raise PromptError for text of a data set that the tokenizer would read as a special token."""
        if isinstance(part, str):
            word = next((t for t in self._reserved if t in part), None)
            if word is not None:
                raise PromptError(
                    f"{prompt.id or 'prompt'}: the text contains {word!r}, which this model's tokenizer reads as a "
                    f"special token: {part[:80]!r}.",
                    fix="Remove it from the data; pass pictures as Image parts, roles as turns.",
                )


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn with its text in the place of a list, if it has no pictures."""
    content = message["content"]
    if all(part["type"] == "text" for part in content):
        return {**message, "content": "".join(part["text"] for part in content)}
    return dict(message)


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _divided(out: Mapping[str, Tensor], of_pictures: Mapping[str, Any]) -> Read:
    """A processor's output for one prompt, without labels and without the attention mask, which is all ones.

    `of_pictures`: the image and video processors' outputs; their fields may have the shape of two tokens, as sizes do.
    """
    ids = out["input_ids"]
    rest = {k: v for k, v in out.items() if k not in NOT_INPUTS}
    by_token = {k: v[0] for k, v in rest.items() if k not in of_pictures and getattr(v, "shape", None) == ids.shape}
    return Read(ids[0], by_token, {k: v for k, v in rest.items() if k not in by_token})


def _number(n: int, what: str) -> str:
    return {0: f"no {what}", 1: f"one {what}"}.get(n, f"{n} {what}s")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
