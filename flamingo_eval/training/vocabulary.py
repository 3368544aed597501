"""The tokenizer of models trained on the sample world: a token for every word of the world, bytes for other text.

A byte-level BPE without merges that looks up whole words first: any text can be encoded and decoded without loss, and
each word of the world is one token.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from flamingo_eval.sample.world.wording import vocabulary

BEGIN, IMAGE, END_OF_CHUNK, PAD = "<BOS>", "<image>", "<EOC>", "<pad>"
SPECIAL = (PAD, BEGIN, IMAGE, END_OF_CHUNK)
# a word with the space before it, a number, other signs, or white space
PIECES = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"


def make_tokenizer() -> Tokenizer:
    """Special tokens first, then the 256 bytes, then every word of the world after a space; stems also without."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"Ġ{w}" for w in vocabulary()]
    words += ["Question", "Output", "Answer", "Short", "Ġanswer", "ĠAnswer", "ĠQuestion", "Ġ,", "Ġ:"]
    words += ["ĠIs", "Ġimage", "Ġwritten", "Ġhateful", "Caption", "Ġperson"]
    table: dict[str, int] = {}
    for token in (*SPECIAL, *symbols, *words):
        table.setdefault(token, len(table))
    tokenizer = Tokenizer(models.BPE(vocab=table, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, table[BEGIN])]
    )
    return tokenizer
