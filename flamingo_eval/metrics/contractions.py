"""Spellings that the VQA scorer expands, as in its own table.

The tables are part of the protocols, including their mistakes: keys with capitals never match, because text is
lower-cased before, and `somebody'd` loses its apostrophe. VizWiz's scorer has the same entries with a typographic
apostrophe, except in eight of the values and two of the keys; this was inferred from its answers to every entry.
"""

from __future__ import annotations

_REGULAR = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd
it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't that's there'd
there're there's they'd they'll they're they've wasn't we've weren't what'll what're what's what've when's where'd
where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
somebody'll somebody's someone'd someone'll someone's something'd something'll
"""

_IRREGULAR = {
    "couldn'tve": "couldn't've", "couldnt've": "couldn't've", "hadnt've": "hadn't've", "hadn'tve": "hadn't've",
    "hed've": "he'd've", "he'dve": "he'd've", "Id've": "I'd've", "I'dve": "I'd've", "Im": "I'm", "Ive": "I've",
    "itd've": "it'd've", "it'dve": "it'd've", "let's": "let's", "mightnt've": "mightn't've",
    "mightn'tve": "mightn't've", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at",
    "shed've": "she'd've", "she'dve": "she'd've", "she's": "she's", "shouldnt've": "shouldn't've",
    "shouldn'tve": "shouldn't've", "somebody'd": "somebodyd", "somebodyd've": "somebody'd've",
    "somebody'dve": "somebody'd've", "someoned've": "someone'd've", "someone'dve": "someone'd've",
    "somethingd've": "something'd've", "something'dve": "something'd've", "thered've": "there'd've",
    "there'dve": "there'd've", "theyd've": "they'd've", "they'dve": "they'd've", "twas": "'twas",
    "wed've": "we'd've", "we'dve": "we'd've", "whod've": "who'd've", "who'dve": "who'd've",
    "wouldnt've": "wouldn't've", "wouldn'tve": "wouldn't've", "yall'll": "y'all'll", "y'allll": "y'all'll",
    "yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've", "youd've": "you'd've",
    "you'dve": "you'd've",
}  # fmt: skip

CONTRACTIONS: dict[str, str] = {word.replace("'", ""): word for word in _REGULAR.split()} | _IRREGULAR

_VIZWIZ_PLAIN_VALUES = ("ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've")
_VIZWIZ_PLAIN_KEYS = ("couldn'tve", "hadn'tve")


def _typographic(text: str, plain: tuple[str, ...]) -> str:
    return text if text in plain else text.replace("'", "\u2019")


VIZWIZ_CONTRACTIONS: dict[str, str] = {
    _typographic(key, _VIZWIZ_PLAIN_KEYS): _typographic(value, _VIZWIZ_PLAIN_VALUES)
    for key, value in CONTRACTIONS.items()
}
