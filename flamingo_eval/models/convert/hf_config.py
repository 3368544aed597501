"""Reads a Hugging Face config.json. An option that this network does not have is an error that names its key.

An unused key is harmless (training, generation, bookkeeping), or an error (it looks as if it changed what is computed),
or named in a warning. Inside `attn_config`, `vision_cfg` and similar objects, which have no bookkeeping, every
unknown key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamingo_eval.errors import CheckpointError, Problem, problems_in
from flamingo_eval.models.config import LARGEST_SIZE, Activation, RotaryScaling

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

MOST_LAYERS = 1024

# Keys that do not change what a loaded model computes, or whose effect shows in the tensors' names and shapes
_HARMLESS = re.compile(
    r"_.*|.*(dropout|_pdrop|_drop|layerdrop|token_id|token_ids|_device|_impl|implementation)(_.*)?|init(ializer)?_.*|"
    r"emb_init.*|dropout|patch_dropout|architectures|model_type|model_name|transformers.*|(torch_)?dtype|auto_map|"
    r"use_cache|output_\w+|return_dict|use_return_dict|chunk_size_feed_forward|is_(encoder_)?decoder|id2label|label2id|"
    r"num_labels|problem_type|finetuning_task|task_specific_params|summary_\w+|tokenizer_class|gradient_checkpointing|"
    r"pretraining_tp|verbose|fc_type|init_std|prefix|use_bfloat16|torchscript|pruned_heads|tie_encoder_decoder|"
    r"cross_attention_hidden_size|add_cross_attention|reorder_and_upcast_attn|attention_bias|mlp_bias|attn_bias|"
    r"qkv_bias|enable_bias|no_bias|vocab_size|n_ctx|max_sequence_length|n_positions|max_position_embeddings|"
    r"max_window_layers|projection_dim|embed_dim|temperature|top_[kp]|repetition_penalty|max_length|min_length|"
    r"do_sample|num_beams|logits_to_keep|learned_pos_emb|attn_uses_sequence_id|flash_attn|use_flash_attn\w*|"
    r"original_max_position_embeddings|tensor_parallel\w*|use_pad_tok_in_ffn|ffn_type|seq_length|model_max_length"
)
# Words in keys that are about the computation
_COMPUTES = re.compile(
    r"softcap|scal|multiplier|window|rope|rotary|norm|act(_|$)|activation|bias|resid|alibi|position|attn|attention|"
    r"qk|clip|expert|moe|router|gate|glu|embed|emb_|logit|layer|head|mlp|ffn|conv|parallel|width|dim|hidden|fraction|block|override"
)


class ForeignConfig:
    """A foreign config.json. Unsupported options are collected; `done` raises them all at once."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values
        self.problems: list[Problem] = []
        self.notes: list[str] = []  # notes for the user
        self._asked: set[str] = set()

    def get(self, *names: str, default: Any = None) -> Any:
        """The value of the first of these keys that is present and not null."""
        self._asked.update(names)
        return next((self.values[n] for n in names if self.values.get(n) is not None), default)

    def whole(self, *names: str, default: int | None = None) -> int:
        """An integer from 1 to LARGEST_SIZE; required if it has no default."""
        value = self.get(*names, default=default)
        if type(value) is int and 0 < value <= LARGEST_SIZE:
            return value
        limits = f" from 1 to {LARGEST_SIZE}" if type(value) is int else ""
        self.problems.append(Problem(f"expected an integer{limits}, got {value!r}.", key=names[0]))
        return 1

    def layers(self, *names: str, default: int | None = None) -> int:
        """A plausible number of layers."""
        value = self.whole(*names, default=default)
        if value <= MOST_LAYERS:
            return value
        self.problems.append(Problem(f"{value} layers: expected at most {MOST_LAYERS}.", key=names[0]))
        return 1

    def heads(self, width: int, *names: str, default: int | None = None) -> int:
        """A number of heads that share the width evenly."""
        value = self.whole(*names, default=default)
        if width % value:
            self.problems.append(Problem(f"{value} heads do not divide a width of {width}.", key=names[0]))
        return value

    def number(self, *names: str, default: float) -> float:
        """A finite number of at least 0."""
        value = self.get(*names, default=default)
        if type(value) in (int, float) and 0 <= value < 1e30:
            return float(value)
        self.problems.append(Problem(f"expected a number, got {value!r}.", key=names[0]))
        return 1.0

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default=default)
        if type(value) is not bool:
            self.problems.append(Problem(f"expected true or false, got {value!r}.", key=name))
        return value is True

    def activation(self, name: str, default: str) -> Activation:
        """An activation under its Hugging Face name."""
        value = self.get(name, default=default)
        if isinstance(value, str) and value in ACTIVATIONS:
            return ACTIVATIONS[value]
        fix = f"Known: {', '.join(ACTIVATIONS)}."
        self.problems.append(Problem(f"activation {value!r} is not supported.", key=name, fix=fix))
        return "gelu"

    def require(self, name: str, *allowed: object, default: object = None) -> None:
        """Add a problem if the model has an option that this decoder does not have."""
        value = self.get(name, default=default)
        if value not in allowed:
            fix = f"Supported: {', '.join(str(v) for v in allowed if v is not None) or 'none'}."
            self.problems.append(Problem(f"{value!r} is not supported.", key=name, fix=fix))

    def rotary(self) -> tuple[float, float, RotaryScaling | None]:
        """Base, fraction and scaling of rotary positions, from the old keys or the new ones."""
        rope = self.inner(self.get("rope_parameters", default={}) or self.get("rope_scaling", default={}))
        base = rope.number("rope_theta", default=self.number("rope_theta", "rotary_emb_base", default=10_000.0))
        share = self.number("partial_rotary_factor", "rotary_pct", default=1.0)
        fraction = rope.number("partial_rotary_factor", default=share)
        kind = rope.get("rope_type", "type", default="default")
        scaling = None
        if kind == "linear":
            scaling = RotaryScaling("linear", rope.number("factor", default=1.0))
        elif kind == "llama3":
            scaling = RotaryScaling(
                "llama3",
                rope.number("factor", default=8.0),
                rope.number("low_freq_factor", default=1.0),
                rope.number("high_freq_factor", default=4.0),
                rope.whole("original_max_position_embeddings"),
            )
        elif kind != "default":
            fix = "Supported: default, linear, llama3."
            self.problems.append(Problem(f"rotary scaling {kind!r} is not supported.", key="rope_scaling", fix=fix))
        if scaling is not None and (scaling.factor <= 0 or scaling.high <= scaling.low):
            self.problems.append(Problem("factors that give no scaling.", key="rope_scaling"))
        return base, fraction, scaling

    def inner(self, values: Mapping[str, Any]) -> ForeignConfig:
        """An object inside this one; its problems are added to this one's."""
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{self.path}: expected an object, got {values!r}.")
        section = ForeignConfig(self.path, values)
        section.problems, section.notes = self.problems, self.notes
        return section

    def known(self, *names: str) -> None:
        """Mark keys as used: they are read elsewhere or do not matter."""
        self._asked.update(names)

    def refuse_unknown(self, prefix: str) -> None:
        """Add a problem for every unused key of an inner object; `prefix` is put before the key."""
        for name in self._unasked():
            what = f"{self.values[name]!r} is not supported."
            self.problems.append(Problem(what, key=f"{prefix}.{name}"))

    def _unasked(self) -> list[str]:
        unasked = (n for n in self.values if n not in self._asked and not _HARMLESS.fullmatch(n))
        return [name for name in unasked if not _off(self.values[name])]

    def done(self) -> None:
        """Raise CheckpointError with all problems; unknown but harmless keys become a note."""
        unasked = self._unasked()
        for name in (n for n in unasked if _COMPUTES.search(n)):
            self.problems.append(Problem(f"{self.values[name]!r}: this option is not supported.", key=name))
        harmless = [n for n in unasked if not _COMPUTES.search(n)]
        if harmless:
            self.notes.append(f"{self.path.name}: unknown options, ignored: {', '.join(harmless)}.")
        if self.problems:
            raise problems_in(self.path, self.problems, CheckpointError)


def _off(value: object) -> bool:
    """Whether a value switches an option off: null, false, a factor of 1, a size of -1."""
    if value is None or isinstance(value, bool):
        return not value
    return value in (0, 1, -1, "", "default", "none") or value == [] or value == {}
