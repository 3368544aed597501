"""A prompt prepared for the engine: its tokens, its pictures, its candidates as a tree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from flamingo_eval.config.specs import RankSpec
from flamingo_eval.engine.batching import rounded_up
from flamingo_eval.engine.best_first import SearchTree, all_columns
from flamingo_eval.engine.trie import TokenTrie
from flamingo_eval.errors import PromptError
from flamingo_eval.models.loaded import LoadedModel
from flamingo_eval.models.tokenizer import Encoded
from flamingo_eval.records import Image, Pixels, Prompt, Video

PrefixKey = tuple[tuple[int, ...], tuple[Image | Video | Pixels, ...]]

KNOWN_LISTS = 32  # size of the cache, in lists of candidates; tasks with one list for all rows need one


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt of a run. `index` is its index among the prompts, `tree` its candidates if it has any."""

    index: int
    id: str
    encoded: Encoded
    branching: int  # columns for branches, after the prompt's
    tree: SearchTree | None = None
    prefix: int = 0  # leading tokens that are read once for all prompts that share them (prefix_cache.py); 0: none
    common_prefix: bool | None = None  # the prompt's

    @property
    def prefix_key(self) -> PrefixKey:
        """The key of its prefix: token ids, and the pictures they see."""
        n_pictures = max(self.encoded.image_of_token[: self.prefix], default=0)
        return self.encoded.ids[: self.prefix], self.encoded.media[:n_pictures]

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.encoded.ids)

    @property
    def columns(self) -> int:
        """Its length with padding behind it."""
        return self.prefix + rounded_up(self.length - self.prefix)

    @property
    def nodes(self) -> int:
        """Inner nodes of its tree of candidates, with padding."""
        return all_columns(self.tree) if self.tree else 0

    @property
    def shape(self) -> Hashable:
        """Prompts of one shape may share a batch."""
        return self.columns, self.branching, self.prefix_key

    @property
    def cost(self) -> int:
        """Number of columns that it needs in the cache."""
        return self.columns + self.branching

    @property
    def last_image(self) -> int:
        """The index of the picture that its branches see, among its pictures; -1 for none."""
        return self.encoded.image_of_token[-1] - 1


class Candidates:
    """Lists of candidates -> token trees, cached."""

    def __init__(self, model: LoadedModel, rank: RankSpec) -> None:
        self.model, self.rank = model, rank
        self._known: OrderedDict[tuple[str, ...], SearchTree] = OrderedDict()

    def tree(self, names: Sequence[str]) -> SearchTree:
        """The tree of a list of candidates. Raises PromptError for an empty one."""
        key = tuple(names)
        if key not in self._known:
            end = self.model.tokenizer.encode_text(self.model.end_of_chunk) if self.rank.end_of_chunk else ()
            rows = [self.model.tokenizer.encode_text(name) + end for name in names]
            if not rows:
                raise PromptError("there are no candidates to score.")
            empty = [repr(name) for name, row in zip(names, rows, strict=True) if not row]
            if empty:
                raise PromptError(f"an empty candidate cannot be scored: {', '.join(empty)}.")
            self._known[key] = SearchTree.of(TokenTrie.of(rows))
            if len(self._known) > KNOWN_LISTS:
                self._known.popitem(last=False)
        return self._known[key]


def check_length(model: LoadedModel, prompt: Prompt, tokens: int) -> None:
    """Raise PromptError if prompt and answer are longer than the model's context."""
    if tokens > model.context_length:
        raise PromptError(
            f"{prompt.id or 'prompt'}: {tokens} tokens with the answer, {model.name} reads {model.context_length}.",
            fix="Lower --shots.",
        )
