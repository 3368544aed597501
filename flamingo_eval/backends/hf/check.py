"""The self-check at load: one prompt with two pictures, computed by the model's own code and by the fast code."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flamingo_eval.backends.hf.network import joined_features
from flamingo_eval.engine.trie import TokenTrie
from flamingo_eval.prompting.ablations import BLANK
from flamingo_eval.records import Image, Prompt

if TYPE_CHECKING:
    from flamingo_eval.backends.hf.engine import HFEngine

log = logging.getLogger(__name__)

SLOPE = Image(Path(__file__).with_name("check.png"))
PROMPT = Prompt([BLANK, "This is grey.\n", SLOPE, "This is a"], id="self-check")
SHORTER = Prompt([SLOPE, "This is"], id="self-check")
CANDIDATES = (" dog", " dog and a cat", " red slope")
PADDING = 3  # tokens before the longer prompt


CONTINUED = " dog"


def why_unusable(engine: HFEngine) -> str:
    """Why prompts with pictures cannot be asked at all, read by the model's own code one at a time; "" if they can."""
    network, pictures = engine.network, engine.pictures
    if getattr(network.model.config, "is_encoder_decoder", False):
        return "it is an encoder with a decoder, which does not continue prompts"
    try:
        plain = pictures.read_opened(PROMPT)
        state = network.prefill([plain], len(plain.ids), engine.pad_id)
        ids = engine.reader.continuation(CONTINUED)
        got = network.extend(state, torch.tensor([ids], device=network.device))[0, -1]
    except Exception as error:  # whatever a family's own code raises
        log.info("self-check: %s: %s", type(error).__name__, error)
        return f"a prompt with two pictures ends in {type(error).__name__}: {_first_line(error)}"
    whole = pictures.read_opened(replace(PROMPT, parts=(*PROMPT.parts[:-1], f"{PROMPT.parts[-1]}{CONTINUED}")))
    if whole.ids.tolist() != [*plain.ids.tolist(), *ids]:
        return ""  # its tokenizer joins the two: nothing to compare
    expected = network.prefill([whole], len(whole.ids), engine.pad_id).logits[0]
    apart = float((expected.log_softmax(-1) - got.log_softmax(-1)).abs().max())
    return (
        "" if apart <= engine.tolerance else f"its cache does not continue a prompt (log-probabilities {apart:.2g} off)"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def difference(engine: HFEngine) -> float:
    """Largest difference in log-probability of the next token, batched with a shorter prompt; inf if it fails."""
    network, pictures = engine.network, engine.pictures
    try:
        plain = pictures.read_opened(PROMPT)
        fast = [pictures.read(prompt) for prompt in (PROMPT, SHORTER)]
        if fast[0].ids.tolist() != plain.ids.tolist():
            log.info("self-check: the pictures' tokens differ")
            return float("inf")
        expected = network.prefill([plain], len(plain.ids), engine.pad_id).logits[0]
        features = pictures.features([PROMPT, SHORTER])
        got = network.prefill(fast, len(plain.ids) + PADDING, engine.pad_id, features).logits[0]
    except Exception as error:  # a family's own code may raise anything for unsupported inputs
        log.info("self-check: the model does not accept features: %s: %s", type(error).__name__, error)
        return float("inf")
    return float((expected.log_softmax(-1) - got.log_softmax(-1)).abs().max())


def prefix_difference(engine: HFEngine) -> float:
    """Largest difference in log-probability of two tokens behind a prefix read before; inf if it fails."""
    network, pictures, prefixes = engine.network, engine.pictures, engine.prefiller.prefixes
    prompt = replace(PROMPT, common_prefix=True)
    try:
        read, features = pictures.read(prompt), pictures.features_of(prompt)
        prefix = prefixes.of(prompt, read, features, pictures.keys_of(prompt))
        if prefix is None:
            return float("inf")
        state = prefixes.state(prefix, read, features)
        behind = joined_features(features[prefix.pictures :] * 2)
        if engine.prefiller.packs:
            got = network.prefill_packed([read, read], behind, state)
        else:
            padding = PADDING if engine.pads_behind_prefix else 0
            rows = state.rows(torch.tensor([0, 0], device=network.device))
            got = network.prefill([read, read], len(read.ids) + padding, engine.pad_id, behind, rows)
        expected = network.prefill([read], len(read.ids), engine.pad_id, joined_features(features))
        token = torch.tensor([engine.reader.continuation(CONTINUED)[:1]], device=network.device)
        pairs = [(expected.logits, got.logits)]
        pairs.append((network.extend(expected, token)[:, -1], network.extend(got, token.expand(2, -1))[:, -1]))
    except Exception as error:
        log.info("self-check: no shared prefix: %s: %s", type(error).__name__, error)
        return float("inf")
    finally:
        prefixes.forget()
    return max(float((a.log_softmax(-1) - b.log_softmax(-1)).abs().max()) for a, b in pairs)


def tree_difference(engine: HFEngine) -> float:
    """Largest difference of a candidate's log-likelihood from a tree and from a row of its own; inf if it fails."""
    candidates = [engine.reader.continuation(text) for text in CANDIDATES]
    try:
        read, features = engine.pictures.read(PROMPT), engine.pictures.features([PROMPT])
        states = [engine.network.prefill([read], len(read.ids), engine.pad_id, features) for _ in range(2)]
        rows = engine.row_sums(states[0], candidates)
        tree = engine.tree_sums(states[1], TokenTrie.of(candidates))
    except Exception as error:
        log.info("self-check: no tree of candidates: %s: %s", type(error).__name__, error)
        return float("inf")
    return float((rows - tree).abs().max())
