"""WordNet 3.0 for WUPS: senses of a word, lemmas, and Wu-Palmer similarity by the rule of nltk 3.3.

Similarities of NLTK differ between releases (which pairs are joined under an artificial root, how many word endings are
removed), and published WUPS uses release 3.3. So NLTK's data files are read here, with our own code for the rules:

    depth(s)         hypernyms on the longest way up to a root; the shortest way when the lowest common hypernym is
                     chosen; ties by name
    Wu-Palmer        2 d / (2 d + l1 + l2) with d = 1 + depth of the lowest common hypernym, l1 and l2 the shortest ways
                     from it to the two senses; nothing if they have none in common
    artificial root  above all roots, and only if the first sense is a verb: verb taxonomies have many roots

Instance hypernyms count as hypernyms.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from flamingo_eval.errors import MissingDependency

INSTALL = "python -m nltk.downloader wordnet averaged_perceptron_tagger_eng punkt_tab"
RESOURCES = ("taggers/averaged_perceptron_tagger_eng", "tokenizers/punkt_tab/english")
PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}  # in the order in which a word's senses are listed
ENDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {  # WordNet's morphy: endings and their replacements
    "n": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip


class Sense(NamedTuple):
    """A synset: part of speech and byte offset in the data file of that part."""

    part: str
    offset: int


ROOT = Sense("", 0)  # the artificial one


@dataclass(frozen=True, slots=True, eq=False)
class WordNet:
    """The index, the exceptions and the data files of a WordNet release."""

    index: Mapping[str, Mapping[str, str]]  # part -> lemma -> its line, which ends in offsets, most frequent first
    exceptions: Mapping[str, Mapping[str, tuple[str, ...]]]  # part -> irregular form -> lemmas
    data: Mapping[str, bytes]

    def offsets(self, lemma: str, part: str) -> list[int]:
        """The offsets of a lemma's senses in the data file of a part of speech, the first sense first."""
        fields = self.index[part][lemma].split()
        return [int(offset) for offset in fields[-int(fields[2]) :]]

    def lemmas(self, word: str, part: str) -> list[str]:
        """Lemmas of a word form in one part of speech, itself first; endings are removed until one is found."""
        if word in self.exceptions[part]:
            return self._known([word, *self.exceptions[part][word]], part)
        forms = _without_endings([word], part)
        lemmas = self._known([word, *forms], part)
        while forms and not lemmas:
            forms = _without_endings(forms, part)
            lemmas = self._known(forms, part)
        return lemmas

    def _known(self, forms: list[str], part: str) -> list[str]:
        return [f for f in dict.fromkeys(forms) if f in self.index[part]]

    def lemma(self, word: str, part: str) -> str:
        """The shortest lemma, or the word itself."""
        return min(self.lemmas(word, part), key=len, default=word)

    def first_sense(self, word: str) -> Sense | None:
        """The first sense of a word: nouns before verbs, adjectives and adverbs."""
        for part in PARTS:
            for lemma in self.lemmas(word.lower(), part):
                return Sense(part, self.offsets(lemma, part)[0])
        return None

    def fields(self, sense: Sense) -> list[str]:
        """The fields of a synset's line in its data file."""
        data = self.data[sense.part]
        return data[sense.offset : data.index(b"\n", sense.offset)].decode("utf-8").split(" | ")[0].split()

    def hypernyms(self, sense: Sense) -> list[Sense]:
        """Direct hypernyms and instance hypernyms."""
        if sense == ROOT:
            return []
        fields = self.fields(sense)
        position = 4 + 2 * int(fields[3], 16)  # after the words comes the number of pointers, four fields each
        pointers = [fields[position + 1 + 4 * i : position + 5 + 4 * i] for i in range(int(fields[position]))]
        return [Sense(part, int(offset)) for symbol, offset, part, _ in pointers if symbol in ("@", "@i")]

    def name(self, sense: Sense) -> str:
        """As NLTK names it: dog.n.01."""
        lemma = self.fields(sense)[4].lower()
        return f"{lemma}.{sense.part}.{self.offsets(lemma, sense.part).index(sense.offset) + 1:02d}"


def _without_endings(forms: list[str], part: str) -> list[str]:
    return [f[: len(f) - len(old)] + new for f in forms for old, new in ENDINGS[part] if f.endswith(old)]


class WuPalmer:
    """Similarity of words by their first senses, with a cache, because answers repeat words."""

    def __init__(self, wordnet: WordNet) -> None:
        self.wordnet = wordnet
        self.first_sense = cache(wordnet.first_sense)
        self.ways_up = cache(self._ways_up)
        self.depths = cache(self._depths)
        self.of_senses = cache(self._of_senses)

    def of_words(self, one: str, other: str) -> float:
        """1 for equal words; 0 if a word is unknown or the two have no common hypernym."""
        if one == other:
            return 1.0
        first, second = self.first_sense(one), self.first_sense(other)
        return self.of_senses(first, second) if first is not None and second is not None else 0.0

    def _ways_up(self, sense: Sense) -> dict[Sense, int]:
        """Every hypernym of a sense, itself included, with the length of the shortest way there."""
        ways = {sense: 0}
        queue = [sense]
        for s in queue:
            for above in self.wordnet.hypernyms(s):
                if above not in ways:
                    ways[above] = ways[s] + 1
                    queue.append(above)
        return ways

    def _depths(self, sense: Sense) -> tuple[int, int]:
        """The shortest and the longest way up to a root. A way never meets a sense twice: the verbs have one loop."""
        shortest, longest = [], []

        def climb(s: Sense, below: tuple[Sense, ...]) -> None:
            above = [h for h in self.wordnet.hypernyms(s) if h not in below]
            if not above:
                shortest.append(len(below))
                longest.append(len(below))
            for h in above:
                climb(h, (*below, s))

        climb(sense, ())
        return min(shortest), max(longest)

    def _of_senses(self, one: Sense, other: Sense) -> float:
        ways, other_ways = self.ways_up(one), self.ways_up(other)
        if one.part == "v":
            ways = {**ways, ROOT: max(ways.values()) + 1}
            other_ways = {**other_ways, ROOT: max(other_ways.values()) + 1}
        common = [s for s in ways if s in other_ways]
        if not common:
            return 0.0
        lowest = max(self.depths(s)[0] for s in common)
        candidates = [s for s in common if self.depths(s)[0] == lowest]
        by_name = sorted(candidates, key=lambda s: "*ROOT*" if s == ROOT else self.wordnet.name(s))
        shared = one if one in candidates else by_name[0]
        depth = self.depths(shared)[1] + 1
        return 2.0 * depth / (self._way(ways, shared) + depth + self._way(other_ways, shared) + depth)

    def _way(self, ways: Mapping[Sense, int], to: Sense) -> int:
        """The shortest way to a common hypernym, over the nearest sense above both."""
        above = self.ways_up(to)
        return min(n + above[s] for s, n in ways.items() if s in above)


@lru_cache(maxsize=1)
def load_wordnet() -> WordNet:
    """WordNet from NLTK's data folders, unpacked or as wordnet.zip. Raises MissingDependency with the install
    command.
    """
    reader = _find_wordnet()
    if reader is None:
        raise _missing("wordnet")
    index: dict[str, dict[str, str]] = {}
    exceptions: dict[str, dict[str, tuple[str, ...]]] = {}
    for part, name in PARTS.items():
        lines = reader(f"index.{name}").decode("utf-8").split("\n")
        index[part] = {line[: line.index(" ")]: line for line in lines if line[:1].strip()}  # the licence is indented
        irregular = [line.split() for line in reader(f"{name}.exc").decode("utf-8").split("\n") if line.strip()]
        exceptions[part] = {f[0]: tuple(f[1:]) for f in irregular}
    return WordNet(index, exceptions, {part: reader(f"data.{name}") for part, name in PARTS.items()})


def _find_wordnet() -> Callable[[str], bytes] | None:
    """Reads a WordNet file by name, from the first NLTK data folder that has WordNet; None if none has it."""
    for root in map(Path, _nltk_paths()):
        folder, zip_path = root / "corpora" / "wordnet", root / "corpora" / "wordnet.zip"
        if (folder / "index.noun").is_file():
            return lambda name, folder=folder: (folder / name).read_bytes()  # type: ignore[misc]
        if zip_path.is_file():
            archive = zipfile.ZipFile(zip_path)
            return lambda name: archive.read(f"wordnet/{name}")
    return None


def _nltk_paths() -> list[str]:
    try:
        import nltk.data
    except ImportError as error:
        raise MissingDependency(
            "WUPS and the stemming of OK-VQA answers need nltk, which is not installed.",
            fix="pip install 'flamingo-eval[wups]'",
        ) from error
    return [str(path) for path in nltk.data.path]


def _missing(*names: str) -> MissingDependency:
    return MissingDependency(f"NLTK data is missing: {', '.join(names)}.", fix=INSTALL)


@lru_cache(maxsize=1)
def require_nltk_data() -> str:
    """NLTK's version, if WordNet, tagger and tokenizer are present. Raises MissingDependency with all that are
    missing.
    """
    _nltk_paths()
    import nltk

    missing = []
    if _find_wordnet() is None:
        missing.append("wordnet")
    for name in RESOURCES:
        try:
            nltk.data.find(name)
        except LookupError:
            missing.append(name.split("/")[1])
    if missing:
        raise _missing(*missing)
    return str(nltk.__version__)
