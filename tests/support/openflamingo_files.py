"""Writes random OpenFlamingo files around any small language model of transformers, as its training saves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.small_flamingo import byte_tokenizer

TOKENS = ("<|endofchunk|>", "<image>", "<PAD>")
VOCABULARY = 256 + len(TOKENS)
VISION_WIDTH = 8


@dataclass
class Files:
    """Arguments of convert_openflamingo, and the language model with the rows that OpenFlamingo adds."""

    checkpoint: Path
    language_model: Path
    vision: Path
    tokenizer: Path
    cross_attention_every: int
    state: dict[str, Tensor]

    def arguments(self) -> dict[str, Any]:
        names = ("checkpoint", "language_model", "vision", "tokenizer", "cross_attention_every")
        return {name: getattr(self, name) for name in names}

    def rewrite(self) -> None:
        """Save the state again after a change."""
        torch.save({"epoch": 0, "model_state_dict": {f"module.{k}": v for k, v in self.state.items()}}, self.checkpoint)


def write_files(
    folder: Path,
    model: Any,
    layers_name: str,
    n_layers: int,
    width: int,
    every: int = 1,
    gate: float = 0.0,
    save_head: bool = True,
    **saving: Any,
) -> Files:
    """`model` is a ...ForCausalLM; it is saved, and then resized to the tokenizer's size."""
    generator = torch.Generator().manual_seed(0)
    model.save_pretrained(folder / "lm", **saving)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    with torch.no_grad():
        for part in (model.get_input_embeddings(), model.get_output_embeddings()):
            part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * 0.3)
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    byte_tokenizer(*TOKENS).save(str(tokenizer / "tokenizer.json"))
    state = {f"perceiver.{k}": v for k, v in perceiver_state(generator).items()}
    for i in range(every - 1, n_layers, every):
        gated = gated_state(width, gate, generator)
        state |= {f"lang_encoder.{layers_name}.{i}.gated_cross_attn_layer.{k}": v for k, v in gated.items()}
    # Everything with "embed" in its name, and the input embeddings, which are trained
    inputs, head = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    for name, tensor in model.state_dict().items():
        trained = tensor.data_ptr() == inputs.data_ptr() or (save_head and tensor.data_ptr() == head.data_ptr())
        if "embed" in name or trained:
            wrapped = name.replace(f"{layers_name}.", f"{layers_name}.") if not trained else name
            state[f"lang_encoder.{wrapped}"] = tensor.detach().clone()
    files = Files(folder / "checkpoint.pt", folder / "lm", folder / "vision", tokenizer, every, state)
    files.rewrite()
    write_vision(files.vision, generator)
    return files


def write_vision(folder: Path, generator: torch.Generator) -> None:
    """An open_clip tower of one layer that reads 8 x 8 pixels."""
    folder.mkdir()
    width = VISION_WIDTH
    vision = '{"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4}'
    (folder / "model_config.json").write_text(f'{{"embed_dim": 4, "quick_gelu": true, "vision_cfg": {vision}}}')
    save_file(tower_state(width, generator), folder / "open_clip_model.safetensors")


def tower_state(width: int, generator: torch.Generator) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.2

    block = "visual.transformer.resblocks.0"
    state = {
        "visual.class_embedding": normal(width),
        "visual.positional_embedding": normal(5, width),
        "visual.conv1.weight": normal(width, 3, 4, 4),
        "visual.proj": normal(width, 4),
        f"{block}.attn.in_proj_weight": normal(3 * width, width),
        f"{block}.attn.in_proj_bias": normal(3 * width),
        f"{block}.attn.out_proj.weight": normal(width, width),
        f"{block}.attn.out_proj.bias": normal(width),
        f"{block}.mlp.c_fc.weight": normal(4 * width, width),
        f"{block}.mlp.c_fc.bias": normal(4 * width),
        f"{block}.mlp.c_proj.weight": normal(width, 4 * width),
        f"{block}.mlp.c_proj.bias": normal(width),
        # the text part of an open_clip model, which the vision encoder does not need
        "token_embedding.weight": normal(7, 4),
        "logit_scale": normal(1)[0],
    }
    for norm in ("visual.ln_pre", "visual.ln_post", f"{block}.ln_1", f"{block}.ln_2"):
        state |= {f"{norm}.weight": 1 + normal(width), f"{norm}.bias": normal(width)}
    return state


def perceiver_state(generator: torch.Generator, width: int = VISION_WIDTH) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state = {"latents": normal(3, width), "norm.weight": 1 + normal(width), "norm.bias": normal(width)}
    state |= {f"layers.0.0.norm_{n}.{p}": normal(width) for n in ("media", "latents") for p in ("weight", "bias")}
    state |= {"layers.0.0.to_q.weight": normal(512, width), "layers.0.0.to_kv.weight": normal(1024, width)}
    state |= {"layers.0.0.to_out.weight": normal(width, 512)}
    state |= {"layers.0.1.0.weight": normal(width), "layers.0.1.0.bias": normal(width)}
    state |= {"layers.0.1.1.weight": normal(4 * width, width), "layers.0.1.3.weight": normal(width, 4 * width)}
    return state


def gated_state(width: int, gate: float, generator: torch.Generator) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state = {"attn_gate": torch.tensor([gate]), "ff_gate": torch.tensor([gate])}
    state |= {f"{n}.{p}": 1 + normal(width) for n in ("attn.norm", "ff.0") for p in ("weight", "bias")}
    state |= {"attn.to_q.weight": normal(512, width), "attn.to_kv.weight": normal(1024, VISION_WIDTH)}
    state |= {"attn.to_out.weight": normal(width, 512)}
    state |= {"ff.1.weight": normal(4 * width, width), "ff.3.weight": normal(width, 4 * width)}
    return state
