"""The beginning that prompts with fixed demonstrations share: read once, continued by every query.

It ends before the first picture of the query, so it is a function of the prompt alone and never cuts a picture in two.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_eval.backends.hf.features import features_name, joined_features
from flamingo_eval.backends.hf.network import Network, Prefilled
from flamingo_eval.backends.hf.reader import Read
from flamingo_eval.records import Image, Prompt


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `tokens` ids of a prompt and its first `pictures` pictures; equal `key`s stand for equal prefixes."""

    tokens: int
    pictures: int
    key: Hashable


class PrefixCache:
    """Finds prefixes and keeps the newest one's cache."""

    def __init__(self, network: Network, pad_id: int) -> None:
        self.network, self.pad_id = network, pad_id
        config = network.model.config
        names = ("image_token_id", "image_token_index")
        self.image_id = next((getattr(config, n) for n in names if getattr(config, n, None) is not None), None)
        self.read_count = 0
        self._newest: tuple[Hashable, Prefilled] | None = None

    def forget(self) -> None:
        """Free the memory of the kept cache."""
        self._newest = None

    def of(self, prompt: Prompt, read: Read, features: Sequence[Any], keys: Sequence[Hashable]) -> Prefix | None:
        """The prefix of a prompt; `features` and `keys` of its pictures, frame by frame. None: it shares none."""
        if not prompt.common_prefix or self.image_id is None:
            return None
        query_parts = prompt.turns[-1].parts if prompt.turns else prompt.media[-1:]
        media = [p for p in query_parts if not isinstance(p, str)]
        if not media or not all(isinstance(m, Image) for m in (*media, *prompt.media)):
            return None
        pictures = len(features) - len(media)
        rows = [picture_tokens(f) for f in features]
        places = (read.ids == self.image_id).nonzero()[:, 0]
        if pictures < 1 or len(places) != sum(rows):
            return None
        tokens = int(places[sum(rows[:pictures])])
        return Prefix(tokens, pictures, (tuple(read.ids[:tokens].tolist()), tuple(keys[:pictures])))

    def state(self, prefix: Prefix, read: Read, features: Sequence[Any]) -> Prefilled:
        """The prefix after prefill, one row; it is read if it is not the newest one."""
        if self._newest is None or self._newest[0] != prefix.key:
            self._newest = None
            part = Read(
                read.ids[: prefix.tokens],
                {name: value[: prefix.tokens] for name, value in read.by_token.items()},
                read.by_picture,
            )
            joined = joined_features(features[: prefix.pictures])
            self._newest = prefix.key, self.network.prefill([part], prefix.tokens, self.pad_id, joined)
            self.read_count += 1
        return self._newest[1]


def picture_tokens(features: Any) -> int:
    """Tokens that a picture's features fill."""
    value = features[features_name(features)]
    parts = value if isinstance(value, (list, tuple)) else [value]
    return sum(p.numel() // p.shape[-1] for p in parts)
