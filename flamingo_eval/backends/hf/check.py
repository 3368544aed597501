"""The self-check at load: one prompt with two pictures, computed by the model's own code and by the fast code."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import torch
from torch import Tensor

from flamingo_eval.backends.hf.candidates import row_sums, tree_sums
from flamingo_eval.backends.hf.features import joined_features
from flamingo_eval.config.specs import DecodeSpec
from flamingo_eval.engine.trie import TokenTrie
from flamingo_eval.prompting.ablations import BLANK
from flamingo_eval.records import Image, Prompt, Video

if TYPE_CHECKING:
    from flamingo_eval.backends.hf.engine import HFEngine

log = logging.getLogger(__name__)

SLOPE = Image(Path(__file__).with_name("check.png"))
PROMPT = Prompt([BLANK, "This is grey.\n", SLOPE, "This is a"], id="self-check")
SHORTER = Prompt([SLOPE, "This is"], id="self-check")
PROMPTS = {"two pictures": PROMPT, "one picture": SHORTER}
FILM = Path(__file__).with_name("check.mp4")
CLIPS = Prompt([Video(FILM, 0, 1), "This is grey.\n", Video(FILM, 1, 2), "This is a"], id="self-check")
SHORTER_CLIP = Prompt([Video(FILM, 1, 2), "This is"], id="self-check")
CLIP_PROMPTS = {"two clips": CLIPS, "one clip": SHORTER_CLIP}
CANDIDATES = (" dog", " dog and a cat", " red slope")
PADDING = 3  # tokens before the longer prompt
CONTINUED = " dog"
TOKEN_KINDS = "mm_token_type_ids"  # text, picture or video

P = ParamSpec("P")


def _inf_if_it_fails(what: str) -> Callable[[Callable[P, float]], Callable[P, float]]:
    """A check that is `inf` if it ends in an error: a family's own code may raise anything for unsupported inputs.

    `what` is then impossible, for the log.
    """

    def wrap(check: Callable[P, float]) -> Callable[P, float]:
        @functools.wraps(check)
        def checked(*args: P.args, **options: P.kwargs) -> float:
            try:
                return check(*args, **options)
            except Exception as error:
                log.info("self-check: %s: %s: %s", what, type(error).__name__, error)
                return math.inf

        return checked

    return wrap


def _largest(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Largest difference in log-probability between logits that should be equal."""
    return max(float((a.log_softmax(-1) - b.log_softmax(-1)).abs().max()) for a, b in pairs)


def why_unusable(engine: HFEngine, prompts: Mapping[str, Prompt]) -> str:
    """Why some prompts cannot be asked at all, read by the model's own code one at a time; "" if they can."""
    if getattr(engine.network.model.config, "is_encoder_decoder", False):
        return "it is an encoder with a decoder, which does not continue prompts"
    for what, prompt in prompts.items():
        try:
            read = engine.pictures.read_opened(prompt)
            engine.own_code.generate(read, DecodeSpec(beams=1, max_new_tokens=1), engine.stop_ids, engine.pad_id)
            predicted = engine.own_code.predicted(read)
        except Exception as error:  # whatever a family's own code raises
            log.info("self-check: %s: %s", type(error).__name__, error)
            return f"a prompt with {what} ends in {type(error).__name__}: {_first_line(error)}"
        if predicted != len(read.ids):
            return (
                f"it predicts {predicted} positions of a prompt of {len(read.ids)} tokens, not each from those before"
            )
    return ""


def asked_for_token_kinds(engine: HFEngine) -> bool:
    """Have the processor return the kinds of tokens, if the model takes them and they are only returned when asked for.

    -> whether that is new. Cosmos 3 Edge computes no positions without them.
    """
    option = f"return_{TOKEN_KINDS}"
    known = option in engine.reader.call or getattr(engine.reader.processor, option, True)
    if known or not engine.network.takes(TOKEN_KINDS):
        return False
    engine.reader.call[option] = True
    return True


@_inf_if_it_fails("its cache does not continue a prompt")
def cache_difference(engine: HFEngine, prompt: Prompt = PROMPT) -> float:
    """Largest difference in log-probability, one prompt at a time, of tokens read with our positions and a cache.

    Compared with one pass of the model's own code over the prompt and its continuation; inf if it fails.
    """
    network = engine.network
    ids = engine.reader.continuation(CONTINUED)
    read = engine.pictures.read_opened(prompt)
    state = network.prefill([read], len(read.ids), engine.pad_id)
    got = torch.cat([state.logits, network.extend(state, torch.tensor([ids], device=network.device))[0]])
    parts = (*prompt.parts[:-1], f"{prompt.parts[-1]}{CONTINUED}")
    whole = engine.pictures.read_opened(replace(prompt, parts=parts))
    if whole.ids.tolist() != [*read.ids.tolist(), *ids]:  # its processor ends a prompt in more than its text
        whole, got = read, got[:1]
    return _largest([(engine.own_code.logits(whole, len(got)), got)])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


@_inf_if_it_fails("the model does not accept features")
def difference(engine: HFEngine, prompt: Prompt = PROMPT, shorter: Prompt = SHORTER) -> float:
    """Largest difference in log-probability of the next token, from features in a batch and from pixels alone.

    Of pictures, or with other prompts of clips as videos; inf if it fails.
    """
    network, pictures = engine.network, engine.pictures
    plain, both = pictures.read_opened(prompt), (prompt, shorter)
    fast = [pictures.read(p) for p in both]
    if fast[0].ids.tolist() != plain.ids.tolist():
        log.info("self-check: the tokens of pictures or clips differ")
        return math.inf
    expected = network.prefill([plain], len(plain.ids), engine.pad_id).logits[0]
    features, clips = pictures.features(both), pictures.clip_features(both)
    got = network.prefill(fast, len(plain.ids) + PADDING, engine.pad_id, features, clips=clips).logits[0]
    return _largest([(expected, got)])


@_inf_if_it_fails("no shared prefix")
def prefix_difference(engine: HFEngine) -> float:
    """Largest difference in log-probability of two tokens behind a prefix read before; inf if it fails."""
    network, pictures, prefixes = engine.network, engine.pictures, engine.prefiller.prefixes
    prompt = replace(PROMPT, common_prefix=True)
    try:
        read, features = pictures.read(prompt), pictures.features_of(prompt)
        prefix = prefixes.of(prompt, read, features, pictures.keys_of(prompt))
        if prefix is None:
            return math.inf
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
        return _largest(pairs)
    finally:
        prefixes.forget()


@_inf_if_it_fails("prompts are not read in pieces")
def pieces_difference(engine: HFEngine) -> float:
    """Largest difference in log-probability of two tokens behind a prompt read in pieces; inf if it fails."""
    network, pictures, pad_id = engine.network, engine.pictures, engine.pad_id
    read, features = pictures.read(PROMPT), pictures.features_of(PROMPT)
    pieces = engine.prefiller.pieces(read, features, len(read.ids) // 3)
    got = network.prefill_pieces(read, pad_id, features, pieces)
    expected = network.prefill([read], len(read.ids), pad_id, joined_features(features))
    token = torch.tensor([engine.reader.continuation(CONTINUED)[:1]], device=network.device)
    return _largest([(expected.logits, got.logits), (network.extend(expected, token), network.extend(got, token))])


@_inf_if_it_fails("candidates are not rows of a batch")
def rows_difference(engine: HFEngine) -> float:
    """Largest difference of a candidate's log-likelihood from a batch of candidates and alone; inf if it fails."""
    network = engine.network
    candidates = [engine.reader.continuation(text) for text in CANDIDATES]
    read = engine.pictures.read_opened(PROMPT)
    state = network.prefill([read], len(read.ids), engine.pad_id)
    alone = [row_sums(network, state, [candidate]) for candidate in candidates]
    return float((row_sums(network, state, candidates) - torch.cat(alone)).abs().max())


@_inf_if_it_fails("no tree of candidates")
def tree_difference(engine: HFEngine) -> float:
    """Largest difference of a candidate's log-likelihood from a tree and from a row of its own; inf if it fails."""
    network = engine.network
    candidates = [engine.reader.continuation(text) for text in CANDIDATES]
    read, features = engine.pictures.read(PROMPT), engine.pictures.features([PROMPT])
    states = [network.prefill([read], len(read.ids), engine.pad_id, features) for _ in range(2)]
    rows = row_sums(network, states[0], candidates)
    tree = tree_sums(network, states[1], TokenTrie.of(candidates))
    return float((rows - tree).abs().max())
