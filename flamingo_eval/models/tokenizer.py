"""Text and media tags <-> token ids.

The whole interleaved text is tokenised in one go, so that ids equal those of the original tokenizer on the same string.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

from flamingo_eval.errors import CheckpointError, Problem, PromptError, problems_in
from flamingo_eval.files import placeholder
from flamingo_eval.models.config import TokenConfig
from flamingo_eval.records import EndOfChunk, Image, Pixels, Prompt, Video

# What Hugging Face's clean_up_tokenization does to decoded text, in this order.
_CLEAN_UP: tuple[tuple[str, str], ...] = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")),
    *((" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)
TRIAL = (
    "A photo, 1 of 2:\n\u00e9"  # a template may name a token that is missing, which the library finds when it encodes
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as the model reads it."""

    ids: tuple[int, ...]  # the begin token included
    image_of_token: tuple[int, ...]  # which picture each token sees: 1-based, 0 for none
    media: tuple[Image | Video | Pixels, ...]  # in reading order


class Tokenizer:
    """A tokenizer.json, and a TokenConfig that says which of its tokens are special."""

    def __init__(
        self, fast: FastTokenizer, config: TokenConfig, vocabulary: int, source: str = "tokenizer.json"
    ) -> None:
        fast.no_padding()
        fast.no_truncation()
        self.fast, self.config = fast, config
        self.image_id = self._find(config.image) if config.image_is_token else None
        ids = {name: fast.token_to_id(name) for name in (*config.stop, *filter(None, [config.around_image]))}
        missing = [name for name, id in ids.items() if id is None]
        missing += [config.image] if config.image_is_token and self.image_id is None else []
        problems = [Problem(f"token '{name}' is missing.", fix="The model's config.json needs it.") for name in missing]
        problems += [
            Problem(f"token '{name}' has id {id}, the model has {vocabulary} embeddings.")
            for name, id in {**ids, config.image: self.image_id}.items()
            if id is not None and id >= vocabulary
        ]
        if problems:
            raise problems_in(source, problems, CheckpointError)
        self.stop_ids = tuple(id for name in config.stop if (id := ids[name]) is not None)

    @classmethod
    def load(cls, path: Path, config: TokenConfig, vocabulary: int) -> Tokenizer:
        """Read a tokenizer.json. Raises CheckpointError if a token is missing or the file is damaged."""
        return cls(read_tokenizer(path), config, vocabulary, str(path))

    def _find(self, token: str) -> int | None:
        id: int | None = self.fast.token_to_id(token)
        return id

    @property
    def begin(self) -> str:
        """The text that the tokenizer itself puts before every text ("" if none)."""
        text: str = self.fast.decode(self.fast.encode("").ids, skip_special_tokens=False)
        return text

    def text(self, prompt: Prompt) -> str:
        """The prompt as one string, with tags for media and without the begin token."""
        return "".join(text for text, _ in self.pieces(prompt))

    def encode(self, prompt: Prompt) -> Encoded:
        """Ids of the whole text, and the picture each token sees.

        Raises PromptError if the tags do not agree with the pictures or the prompt has no token.
        """
        pieces = self.pieces(prompt)
        encoding = self.fast.encode("".join(text for text, _ in pieces))
        image_of_token = self.sees(pieces, encoding)
        if not encoding.ids:
            raise PromptError(f"{_named(prompt)}: the prompt is empty, and the model has no begin token to start from.")
        if max(image_of_token, default=0) != len(prompt.media):
            raise PromptError(f"{_named(prompt)}: {max(image_of_token)} image tags for {len(prompt.media)} pictures.")
        return Encoded(tuple(encoding.ids), tuple(image_of_token), prompt.media)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Ids of text that continues a prompt: no begin token."""
        return tuple(self.fast.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids as text: truncated at the first stop token, special tokens left out."""
        end = next((i for i, id in enumerate(ids) if id in self.stop_ids), len(ids))
        text: str = self.fast.decode(list(ids[:end]), skip_special_tokens=True)
        if self.config.clean_up_spaces:
            for spaced, joined in _CLEAN_UP:
                text = text.replace(spaced, joined)
        return text

    def pieces(self, prompt: Prompt) -> list[tuple[str, bool]]:
        """The text of every part that has some, and whether the part is a picture. Raises PromptError."""
        if prompt.turns:
            raise PromptError(
                f"{_named(prompt)}: this model has no chat template: it reads one text with pictures, not turns.",
                fix="Use a protocol of interleaved style, such as --protocol flamingo.",
            )
        pieces: list[tuple[str, bool]] = []
        config = self.config
        for part in prompt.parts:
            if isinstance(part, EndOfChunk):
                pieces.append((config.end_of_chunk, False))
            elif not isinstance(part, str):
                follows_image = bool(pieces) and pieces[-1][1]
                separator = "" if follows_image else config.around_image
                pieces.append((f"{separator}{config.image}{config.around_image}", True))
            elif config.image in part:
                raise PromptError(
                    f"{_named(prompt)}: the text contains '{config.image}', the tag of a picture: {part[:80]!r}.",
                    fix="Give pictures as Image, Video or Pixels parts, and remove the tag from the text.",
                )
            elif part:
                pieces.append((part, False))
        return pieces

    def sees(self, pieces: Sequence[tuple[str, bool]], encoding: Encoding) -> list[int]:
        """The picture that each token of the joined pieces sees: 1-based, 0 for none."""
        if self.image_id is None:
            return self._sees_by_offset(pieces, encoding.offsets)
        return self._sees_by_tag(encoding.ids)

    def _sees_by_tag(self, ids: Sequence[int]) -> list[int]:
        """The picture changes at the tag's own token (v1 figure 7 and OpenFlamingo)."""
        image_of_token, current = [], 0
        for id in ids:
            current += id == self.image_id
            image_of_token.append(current)
        return image_of_token

    def _sees_by_offset(self, pieces: Sequence[tuple[str, bool]], offsets: Sequence[tuple[int, int]]) -> list[int]:
        """For tags of several sub-words: the picture changes at the first token that overlaps the tag."""
        starts, offset = [], 0
        for text, is_image in pieces:
            if is_image:
                starts.append(offset)
            offset += len(text)
        image_of_token, current = [], 0
        for _, end in offsets:
            while current < len(starts) and starts[current] < end:
                current += 1
            image_of_token.append(current)
        return image_of_token


def read_tokenizer(path: Path) -> FastTokenizer:
    """Read a tokenizer.json without changing it. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    if instead := placeholder(path):
        raise CheckpointError(f"{path}: {instead}")
    with refused(path):
        fast = FastTokenizer.from_file(str(path))
        fast.decode(fast.encode(TRIAL).ids)
    return fast


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Whatever the library raises for an invalid tokenizer.json becomes a CheckpointError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # plain Exception, and panics of Rust, which are no Exception
        raise CheckpointError(f"{path}: not a tokenizer.json: {error}.") from error


def _named(prompt: Prompt) -> str:
    return prompt.id or "prompt"
