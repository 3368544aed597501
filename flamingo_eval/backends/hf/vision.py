"""Pictures of prompts for a model of transformers: each one is opened, processed and encoded once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image as PillowImage

from flamingo_eval.backends.hf.clips import blank_clip
from flamingo_eval.backends.hf.families import Family
from flamingo_eval.backends.hf.features import joined_features, kept_features, mapped, of_one_picture, tensor_names
from flamingo_eval.backends.hf.network import Network
from flamingo_eval.backends.hf.opened import OpenedPictures
from flamingo_eval.backends.hf.pictures import Layout, PictureFields, fields_from_bytes, fields_to_bytes, light
from flamingo_eval.backends.hf.reader import PLACEHOLDER, Read, Reader
from flamingo_eval.data.media import content_hash
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import CheckpointError, MediaError, PromptError
from flamingo_eval.records import Image, Pixels, Prompt, Video

PIXELS_KEPT = 64  # pictures and frames whose pixels wait to be encoded
WHOLE = -1  # in the place of a frame's number: a clip that is shown as one video
KNOWN = 65_536  # pictures whose processor outputs are cached; they are small
ADVICE = (
    "Lower --shots, or reduce the tokens per picture with an option of this family in --model-args: max_pixels, "
    "longest_edge, do_image_splitting=false, crop_to_patches=false"
)


class Pictures:
    """Inputs and features of the pictures in prompts."""

    def __init__(
        self,
        reader: Reader,
        network: Network | None,
        family: Family,
        opened: OpenedPictures,
        store: VisionCache | None = None,
    ) -> None:
        """`network` None: tokens are counted, nothing is encoded. `store` None: features stay in memory.

        `opened` is shared by all who open pictures for one model.

        Raises CheckpointError where the processor takes no prompt with two pictures.
        """
        self.reader, self.network, self.family, self.frames = reader, network, family, reader.frames
        self.store = store or VisionCache("memory")
        self._known: OrderedDict[tuple[str, int, bool], PictureFields] = OrderedDict()
        self._pixels: OrderedDict[tuple[tuple[Image | Video, int], bool], Read] = OrderedDict()
        self.opened, self.encoded = opened, 0
        self._forms: dict[bool, Any] = {}  # of features of pictures (False) and videos: the layout of their tensors
        blank = PillowImage.new("RGB", PLACEHOLDER, "gray")
        try:
            one, two = (reader.process([blank] * n)[1] for n in (1, 2))
        except PromptError as error:
            raise CheckpointError(
                f"demonstrations cannot be shown to this model: {str(error).splitlines()[0]}",
                fix="Use a model that takes several pictures in a prompt: see docs/models.md.",
            ) from error
        self.layout = Layout.learned(one, two)
        self.clip_layout = Layout({})
        if reader.clips_as_video:
            one, two = (reader.process_clips([blank_clip(reader.frames, *PLACEHOLDER)] * n)[1] for n in (1, 2))
            self.clip_layout = Layout.learned(one, two)

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts of opened and encoded pictures, and of features found in the store."""
        counts = {"pictures_encoded": self.encoded, "pictures_opened": self.opened.decoded}
        return {**counts, "vision_cache": self.store.stats}

    # ------------------------------------------------------------------------------------------------------ prompts

    def read(self, prompt: Prompt) -> Read:
        """The prompt without pixels; new pictures are opened once. Raises MediaError, PromptError."""
        units, clips = self._units(prompt), self._clips(prompt)
        pictures, videos = ([self._of(u, len(units)) for u in some] for some in (units, clips))
        return self.reader.read(prompt, pictures, self.layout, videos, self.clip_layout)

    def read_opened(self, prompt: Prompt) -> Read:
        """The prompt with pixels, from the model's own processor; they are kept. Raises MediaError, PromptError."""
        opened = [self.opened.get(media, frame, keep=True) for media, frame in self._units(prompt)]
        return self.reader.read_opened(prompt, opened, [self.opened.clip(c) for c, _ in self._clips(prompt)])

    def features(self, prompts: Sequence[Prompt]) -> Any:
        """Features of all pictures of some prompts, in order; None if there are no pictures."""
        outputs = [output for prompt in prompts for output in self.features_of(prompt)]
        return joined_features(outputs) if outputs else None

    def features_of(self, prompt: Prompt) -> list[Any]:
        """Features of each picture of a prompt; frame by frame where clips are shown as pictures."""
        units = self._units(prompt)
        return [self._features(unit, len(units)) for unit in units]

    def clip_features(self, prompts: Sequence[Prompt]) -> Any:
        """Features of all clips that some prompts show as videos, in order; None if there are none."""
        outputs = [self._features(unit, 0) for prompt in prompts for unit in self._clips(prompt)]
        return joined_features(outputs) if outputs else None

    def keys_of(self, prompt: Prompt) -> list[str]:
        """Keys of the pictures of a prompt, by content."""
        return [f"{content_hash(media)}:{frame}" for media, frame in self._units(prompt)]

    # ----------------------------------------------------------------------------------------------------- pictures

    def _units(self, prompt: Prompt) -> list[tuple[Image | Video, int]]:
        """Pictures, and frames of clips one by one where they are shown as pictures."""
        units: list[tuple[Image | Video, int]] = []
        for media in prompt.media:
            if isinstance(media, Pixels):
                raise MediaError(f"{prompt.id or 'prompt'}: expected picture files, got preprocessed pixels.")
            if isinstance(media, Image):
                units.append((media, 0))
            elif not self.reader.clips_as_video:
                units += [(media, i) for i in range(self.frames)]
        return units

    def _clips(self, prompt: Prompt) -> list[tuple[Video, int]]:
        """Clips that are shown as videos."""
        return [(m, WHOLE) for m in prompt.media if isinstance(m, Video)] if self.reader.clips_as_video else []

    def _lone(self, n: int) -> bool:
        return n == 1 and self.family.lone_differs

    def _of(self, unit: tuple[Image | Video, int], n: int) -> PictureFields:
        key = (content_hash(unit[0]), unit[1], self._lone(n))
        if key not in self._known:
            self._known[key] = self._stored_fields(unit, n)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return self._known[key]

    def _stored_fields(self, unit: tuple[Image | Video, int], n: int) -> PictureFields:
        """The processor's output for a picture, from the store: one whose features are there is not opened again."""
        name = _digest(f"{content_hash(unit[0])}:{unit[1]}:{self._lone(n)}", "fields")
        stored = self.store.get(name) if name in self.store else None
        if stored is not None:
            return fields_from_bytes(stored)
        _, returned = self._processed(unit, n)
        fields = light(self.layout.first(returned) if self._in_pair(n) else returned)
        content = fields_to_bytes(fields)
        if content is not None:
            self.store.put(name, content)
        return fields

    def _features(self, unit: tuple[Image | Video, int], n: int) -> Any:
        """A picture's features, from the store if it has all of them."""
        key = f"{content_hash(unit[0])}:{unit[1]}:{self._lone(n)}"
        form = self._forms.get(unit[1] == WHOLE)
        if form is not None:
            names = tensor_names(form)
            stored = {name: self.store.get(_digest(key, name)) for name in names}
            features = {name: tensor for name, tensor in stored.items() if tensor is not None}
            if len(features) == len(names):
                assert self.network is not None
                device = self.network.device
                return mapped(form, lambda name, _: features[name].to(device))
        output = of_one_picture(self._encoded(unit, n))
        self._forms[unit[1] == WHOLE] = output
        mapped(output, lambda name, tensor: self.store.put(_digest(key, name), tensor))
        return output

    def _in_pair(self, n: int) -> bool:
        """Whether the processor must get the picture twice, to treat it as one of several."""
        return self.family.lone_differs and n > 1

    def _processed(self, unit: tuple[Image | Video, int], n: int) -> tuple[Read, dict[str, Any]]:
        if unit[1] == WHOLE:
            assert isinstance(unit[0], Video)
            read, returned = self.reader.process_clips([self.opened.clip(unit[0])])
        else:
            picture = self.opened.get(*unit, keep=self.network is None)
            read, returned = self.reader.process([picture, picture] if self._in_pair(n) else [picture])
        if self.network is not None:  # the pixels will be needed soon
            self._pixels[unit, self._lone(n)] = read
            while len(self._pixels) > 1 and self._waiting() > PIXELS_KEPT:
                self._pixels.popitem(last=False)
        return read, returned

    def _waiting(self) -> int:
        return sum(self.frames if frame == WHOLE else 1 for (_, frame), _ in self._pixels)

    def _encoded(self, unit: tuple[Image | Video, int], n: int) -> Any:
        assert self.network is not None
        read = self._pixels.pop((unit, self._lone(n)), None) or self._processed(unit, n)[0]
        self.encoded += 1
        if unit[1] == WHOLE:
            output = kept_features(self.network.clip_features(read))
            self.opened.forget(unit[0])
            return output
        if self._in_pair(n):
            return _first_of_pair(kept_features(self.network.features(read)))
        try:
            return kept_features(self.network.features(read))
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError) or self._lone(n):
                raise
            return self._encoded_twice(unit)

    def _encoded_twice(self, unit: tuple[Image | Video, int]) -> Any:
        """Features of a picture encoded beside itself: Mistral 3's code fails for one of a single token alone."""
        assert self.network is not None
        picture = self.opened.get(*unit, keep=False)
        return _first_of_pair(kept_features(self.network.features(self.reader.process([picture, picture])[0])))


def _digest(key: str, name: str) -> str:
    return hashlib.sha256(f"{key}:{name}".encode()).hexdigest()


def _first_of_pair(output: Any) -> Any:
    fields: dict[str, Any] = {}
    for name, value in output.items():
        if name == "pooler_output" and isinstance(value, (list, tuple)):
            fields[name] = list(value[: len(value) // 2])
        elif isinstance(value, (list, tuple)):
            fields[name] = [layer[: len(layer) // 2] for layer in value]
        else:
            fields[name] = value[: len(value) // 2]
    return type(output)(**fields)
