"""Episode + PromptSpec -> Prompt: a pure function of strings and media.

Templates are Jinja in an immutable sandbox: they see the example's fields, `answer`, and the marks `image` and
`end_of_chunk`, and cannot run code. During rendering a mark is a Unicode noncharacter, so that no text of a data set
can be read as a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from flamingo_eval.config.specs import CleanSpec, PromptSpec, ProtocolSpec
from flamingo_eval.errors import PromptError
from flamingo_eval.prompting.answer_rules import RULES
from flamingo_eval.prompting.letters import letter_of, listed
from flamingo_eval.records import END_OF_CHUNK, IN_WORDS, EndOfChunk, Episode, Example, Part, Prompt, Turn

IMAGE_MARK = "\ufdd0"
END_OF_CHUNK_MARK = "\ufdd1"
DEFAULT_VARIANT = "default"


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.globals.clear()  # no range, lipsum, cycler: templates may only use the example's values
    return env


@lru_cache(maxsize=256)
def _template(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _fill(source: str, what: str, spec: PromptSpec, values: Mapping[str, Any], id: str) -> str:
    try:
        return _template(source).render(values)
    except jinja2.UndefinedError as error:
        value_names = ", ".join(sorted(values))
        raise PromptError(
            f"prompt '{spec.name}', {what}, example {id}: {error}.", fix=f"Known here: {value_names}."
        ) from error
    except (jinja2.TemplateError, NameError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise PromptError(f"prompt '{spec.name}', {what}, example {id}: {error}.") from error


def _checked(values: Mapping[str, object], reserved: Iterable[str], id: str) -> Mapping[str, object]:
    """The fields of an example. Raises PromptError for text that would be read as a mark."""
    for name, value in values.items():
        text = str(value)
        for word in (IMAGE_MARK, END_OF_CHUNK_MARK, *reserved):
            if word and word in text:
                raise PromptError(
                    f"example {id}: {name} contains the reserved text {word!r}.", fix="Remove it from the data."
                )
    return values


def render(episode: Episode, spec: PromptSpec, protocol: ProtocolSpec, candidates: Sequence[str] = ()) -> Prompt:
    """The prompt of one episode: prefix, demonstrations, query stem (Flamingo v2 B.1.5, Fig. 8).

    In chat style: a system turn, a user and an assistant turn per demonstration, and the query as the last user turn.
    In style one-turn: everything in one user turn.

    With `episode.text_only` the demonstrations have text and end-of-chunk marks but no pictures and tags (v2 A.2). An
    example without media has no tag. `candidates` are the split's, used in prompts with letters for examples without
    their own. Raises PromptError if a template needs a field that the example does not have.
    """
    if protocol.style == "chat":
        return Prompt(_turns(episode, spec, protocol, candidates), id=episode.query.id)
    reserved = (protocol.image, protocol.end_of_chunk)
    prefix = _prefix(spec, episode.query.id)
    parts: list[Part] = [prefix] if prefix else []
    for shot in episode.shots:
        values = _checked(_shot_values(shot, spec, candidates), reserved, shot.id)
        text = _fill(spec.demonstration, "demonstration", spec, {**values, **_MARKS}, shot.id)
        parts += _split(text, () if episode.text_only else _spaced(_seen(shot), protocol), shot)
    query = episode.query
    values = _checked(_query_values(query, spec, candidates), reserved, query.id)
    text = _fill(spec.query, "query", spec, {**values, **_MARKS}, query.id)
    parts += _split(text, _spaced(query.media, protocol), query)
    if protocol.style == "one-turn":
        return Prompt([Turn("user", _joined(parts))], id=query.id)
    return Prompt(_joined(parts), id=query.id)


def _query_values(query: Example, spec: PromptSpec, candidates: Sequence[str]) -> Mapping[str, object]:
    """The values for the template of a query."""
    if spec.rank.wanted != "letter":
        return query.fields
    return {**query.fields, "choices": listed(query.candidates or candidates)}


def _shot_values(shot: Example, spec: PromptSpec, candidates: Sequence[str]) -> Mapping[str, object]:
    """The values for the template of a demonstration."""
    values = {**_query_values(shot, spec, candidates), "answer": shot.answer}
    if spec.rank.wanted == "letter":
        values["letter"] = letter_of(shot, shot.candidates or candidates)
    return values


def _prefix(spec: PromptSpec, id: str) -> str:
    """The text before the demonstrations, with the instruction, if there is one."""
    if not spec.instructions:
        return spec.prefix
    return _fill(spec.prefix, "prefix", spec, {"instruction": _instruction(spec)}, id)


def _instruction(spec: PromptSpec) -> str:
    return next(iter(spec.instructions.values()), "")


def _seen(shot: Example) -> tuple[Part, ...]:
    """A shot's pictures, or the words in their place (ablation images-in-words)."""
    return (f"{shot.fields[IN_WORDS]}\n",) if IN_WORDS in shot.fields and not shot.media else shot.media


def _spaced(media: Iterable[Part], protocol: ProtocolSpec) -> tuple[Part, ...]:
    """Pictures, each followed by the protocol's `after_image`."""
    if not protocol.after_image:
        return tuple(media)
    return tuple(p for part in media for p in ((part,) if isinstance(part, str) else (part, protocol.after_image)))


def _turns(episode: Episode, spec: PromptSpec, protocol: ProtocolSpec, candidates: Sequence[str]) -> list[Turn]:
    """The prompt as a conversation, which ends with the user's question."""
    reserved = (protocol.image,)
    instruction = {"instruction": _instruction(spec)}
    prefix = _prefix(spec, episode.query.id)
    turns = [Turn("system", prefix)] if prefix else []

    def said(source: str, what: str, example: Example, values: Mapping[str, Any], media: Iterable[Part]) -> list[Part]:
        checked = _checked(values, reserved, example.id)
        text = _fill(source, what, spec, {**checked, **instruction, "image": IMAGE_MARK}, example.id)
        return _joined(_split(text, media, example))

    for shot in episode.shots:
        values = _shot_values(shot, spec, candidates)
        media = () if episode.text_only else _seen(shot)
        turns.append(Turn("user", said(spec.demonstration, "demonstration", shot, values, media)))
        turns.append(Turn("assistant", said(spec.answer, "answer", shot, values, ())))
    query = episode.query
    values = _query_values(query, spec, candidates)
    turns.append(Turn("user", said(spec.query, "query", query, values, query.media)))
    return turns


def with_variant(spec: PromptSpec, variant: str) -> PromptSpec:
    """The prompt with one instruction: the variant's if it exists, otherwise `default`."""
    if not spec.instructions:
        return spec
    name = variant if variant in spec.instructions else DEFAULT_VARIANT
    return replace(spec, instructions={name: spec.instructions.get(name, "")})


_MARKS = {"image": IMAGE_MARK, "end_of_chunk": END_OF_CHUNK_MARK}


def _split(text: str, media: Iterable[Part], example: Example) -> list[Part]:
    """The template's text with its marks replaced; `image` stands for all pictures of the example, in order."""
    if text.count(IMAGE_MARK) > 1:
        raise PromptError(f"example {example.id}: the template shows `image` {text.count(IMAGE_MARK)} times, not once.")
    parts: list[Part] = []
    for chunk in _pieces(text):
        if chunk == IMAGE_MARK:
            parts += media
        elif chunk == END_OF_CHUNK_MARK:
            parts.append(END_OF_CHUNK)
        else:
            parts.append(chunk)
    return parts


def _pieces(text: str) -> Iterable[str]:
    start = 0
    for i, char in enumerate(text):
        if char in (IMAGE_MARK, END_OF_CHUNK_MARK):
            if i > start:
                yield text[start:i]
            yield char
            start = i + 1
    if start < len(text):
        yield text[start:]


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Joins adjacent texts, so that the parts do not depend on the structure of a template."""
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def candidate_text(candidate: str, spec: PromptSpec) -> str:
    """The text appended to the query's stem to score a candidate."""
    return _fill(spec.candidate, "candidate", spec, {"candidate": candidate}, repr(candidate))


def shown(prompt: Prompt, protocol: ProtocolSpec) -> str:
    """The prompt as text, with the protocol's own marks, for `flamingo-eval show`."""
    if prompt.turns:
        return "".join(f"[{t.role}]\n{_shown_parts(t.parts, protocol)}\n" for t in prompt.turns) + "[assistant]\n"
    return protocol.begin + _shown_parts(prompt.parts, protocol)


def _shown_parts(parts: Iterable[Part], protocol: ProtocolSpec) -> str:
    text = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        else:
            text.append(protocol.end_of_chunk if isinstance(part, EndOfChunk) else protocol.image)
    return "".join(text)


def clean(text: str, spec: CleanSpec) -> str:
    """Generated text -> the prediction to score, by the protocol's rules, in order."""
    text = RULES[spec.rule](text)
    for words in (spec.cut_at, spec.cut_at_after):
        cuts = [text.find(word) for word in words if word in text]
        text = text[: min(cuts)] if cuts else text
    for word in spec.delete:
        text = text.replace(word, "")
    return text.strip() if spec.strip else text
