"""The README.md of a checkpoint that was converted or built: what it contains and its sources."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.flamingo import parameter_counts


def model_card(
    config: FlamingoConfig, kind: str, language: str, sources: Mapping[str, Path], notes: Sequence[str]
) -> str:
    """Markdown: parts with their sizes, sources by name and hash, and what differs from the original."""
    origin = f"Converted by flamingo-eval from an {kind} checkpoint. No weight was trained or changed."
    return _card(config, origin, language, sources, notes)


def built_card(config: FlamingoConfig, language: str, sources: Mapping[str, Path], notes: Sequence[str]) -> str:
    """Markdown for a folder that `build` made: parts with sizes, sources, a note that the new parts are untrained."""
    origin = (
        "Built by flamingo-eval from a frozen vision encoder and a frozen language model. Resampler and gated blocks "
        "are new and untrained, their gates at zero: pictures do not change its answers."
    )
    return _card(config, origin, language, sources, notes)


def _card(config: FlamingoConfig, origin: str, language: str, sources: Mapping[str, Path], notes: Sequence[str]) -> str:
    counts = parameter_counts(config)
    vision, decoder, n_xattn = config.vision, config.decoder, len(config.xattn_blocks)
    lines = [
        f"# {config.name}",
        "",
        origin,
        "",
        "| part | shape | parameters |",
        "|---|---|---|",
        f"| vision encoder | {vision.kind}, {vision.width} wide, {config.preprocess.size} px | {counts['vision']:,} |",
        f"| Resampler | {config.visual_tokens} tokens of {config.visual_width} per picture | {counts['resampler']:,} |",
        f"| gated cross-attention | before {n_xattn} of {decoder.layers} blocks | {counts['xattn']:,} |",
        f"| language model | {language}, {decoder.layers} blocks, {decoder.width} wide | {counts['decoder']:,} |",
        "",
        "## Made from",
        "",
    ]
    lines += [f"- {part}: `{path.name}`{_hash(path)}" for part, path in sources.items()]
    if notes:
        lines += ["", "## To know", ""] + [f"- {note}" for note in notes]
    lines += ["", "Licences and intended use are those of the original models.", ""]
    return "\n".join(lines)


def _hash(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return f", sha256 `{hashlib.file_digest(file, 'sha256').hexdigest()}`"
