"""Vision-language models of transformers with random weights and a few thousand parameters, each saved in a folder.

A byte-level tokenizer of printable characters, the family's own processor by Pillow, and a minimal chat template with
the family's own marks. Nothing is trained: what counts is that two ways of computing agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WIDTH = 48
SIDE = 32  # side of a picture for the models
IM_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type']=='text' %}{{ c['text'] }}{% else %}IMAGE{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
HALF = [0.5, 0.5, 0.5]


@dataclass(frozen=True, slots=True)
class Tiny:
    """How one family is built. `image` is the template's text for a picture, `special` its special tokens."""

    image: str
    special: tuple[str, ...]
    make: Callable[[Mapping[str, int], int], Any]  # ids of the special tokens, size of the vocabulary -> config
    processor: Callable[[Any], Any]  # tokenizer -> processor


def tokenizer_of(special: tuple[str, ...], named: Mapping[str, str] | None = None) -> PreTrainedTokenizerFast:
    """Every byte is a token; `special` follow, first the end of a turn, then padding."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        eos_token=special[0],
        pad_token=special[1],
        padding_side="left",
        **({"extra_special_tokens": dict(named)} if named else {}),
    )


def save_tiny(family: str, folder: Path, tiny: Tiny | None = None) -> Path:
    """The folder of a tiny model of the family, weights by a fixed seed. `tiny`: how it is built, if not here."""
    tiny = tiny or FAMILIES[family]
    processor = tiny.processor(tokenizer_of(tiny.special, NAMED.get(family)))
    tokenizer = processor.tokenizer
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in tiny.special}
    config = tiny.make(ids, len(tokenizer))
    torch.manual_seed(20261128)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
        for name, parameter in model.named_parameters():
            if name.endswith("attn_gate"):  # Mllama's are initially zero: pictures would change nothing
                parameter.fill_(0.7)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = (
        ids[tiny.special[0]],
        ids[tiny.special[1]],
    )
    model.save_pretrained(folder)
    template = IM_TEMPLATE.replace("IMAGE", tiny.image)
    processor.chat_template = template
    processor.save_pretrained(folder)
    return folder


def text_config(cls: str, vocabulary: int, **more: Any) -> Any:
    return getattr(transformers, cls)(**TEXT, vocab_size=vocabulary, tie_word_embeddings=False, **more)


def idefics_family(kind: str) -> Tiny:
    special = ("<|im_end|>", "<pad>", "<|im_start|>", "<image>", "<fake_token_around_image>", "<end_of_utterance>")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        common = {"image_token_id": ids["<image>"], "tie_word_embeddings": False, "pad_token_id": ids["<pad>"]}
        if kind == "Idefics2":
            vision, text = dict(SIGLIP), text_config("MistralConfig", vocabulary, sliding_window=None)
            perceiver = {
                "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2, "resampler_head_dim": 8,
                "num_key_value_heads": 1, "hidden_size": WIDTH,
            }  # fmt: skip
            return transformers.Idefics2Config(
                vision_config=vision, text_config=text, perceiver_config=perceiver, **common
            )
        text = text_config("LlamaConfig", vocabulary, pad_token_id=ids["<pad>"])
        config = getattr(transformers, f"{kind}Config")
        return config(vision_config=dict(SIGLIP), text_config=text, scale_factor=2, **common)

    def processor(tokenizer: Any) -> Any:
        size = {"longest_edge": SIDE}
        common = {"do_image_splitting": False, "image_mean": HALF, "image_std": HALF}
        if kind == "Idefics2":
            images = pil_processor("Idefics2")(size={"longest_edge": SIDE, "shortest_edge": SIDE // 2}, **common)
            return transformers.Idefics2Processor(images, tokenizer, image_seq_len=4)
        images = pil_processor(kind)(size=size, max_image_size=size, **common)
        return getattr(transformers, f"{kind}Processor")(images, tokenizer, image_seq_len=4)

    return Tiny("<image>", special, make, processor)


def qwen_family(kind: str) -> Tiny:
    special = (
        "<|im_end|>",
        "<pad>",
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 2]}
        text = {**TEXT, "vocab_size": vocabulary, "rope_parameters": rope, "tie_word_embeddings": False}
        vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
        if kind == "Qwen2VL":
            vision |= {"embed_dim": 32, "hidden_size": WIDTH, "mlp_ratio": 2, "temporal_patch_size": 2}
        elif kind == "Qwen2_5_VL":
            vision |= {
                "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": WIDTH, "temporal_patch_size": 2,
                "window_size": 16, "fullatt_block_indexes": [1],
            }  # fmt: skip
        else:
            text |= {"head_dim": 12, "rope_parameters": {**rope, "mrope_interleaved": True}}
            vision |= {
                "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": WIDTH, "temporal_patch_size": 2,
                "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64,
            }  # fmt: skip
        return getattr(transformers, f"{kind}Config")(
            text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"], tie_word_embeddings=False,
            video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("Qwen2VL")(
            patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 1024}
        )
        return without_video(getattr(transformers, f"{kind}Processor"))(images, tokenizer)

    return Tiny("<|vision_start|><|image_pad|><|vision_end|>", special, make, processor)


def _llava(kind: str) -> Tiny:
    special = ("<|im_end|>", "<pad>", "<|im_start|>", "<image>", "<video>")
    onevision = kind == "LlavaOnevision"

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        vision = transformers.SiglipVisionConfig(**SIGLIP, vision_use_head=False)
        text = text_config("Qwen2Config", vocabulary)
        more = {"image_grid_pinpoints": [[32, 32], [32, 64], [64, 32]], "video_token_index": ids["<video>"]}
        return getattr(transformers, f"{kind}Config")(
            vision_config=vision, text_config=text, image_token_index=ids["<image>"], vision_feature_layer=-1,
            vision_feature_select_strategy="full", tie_word_embeddings=False, **(more if onevision else {}),
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        size = {"height": SIDE, "width": SIDE}
        if onevision:
            images = pil_processor("LlavaOnevision")(size=size, image_grid_pinpoints=[[32, 32], [32, 64], [64, 32]])
            return without_video(transformers.LlavaOnevisionProcessor)(
                images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full"
            )
        images = pil_processor("Siglip")(size=size)
        return transformers.LlavaProcessor(
            images, tokenizer, patch_size=8, vision_feature_select_strategy="full", num_additional_image_tokens=0
        )

    return Tiny("<image>\n", special, make, processor)


def _internvl() -> Tiny:
    special = ("<|im_end|>", "<pad>", "<|im_start|>", "<IMG_CONTEXT>", "<img>", "</img>", "<video>")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        vision = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": [SIDE, SIDE], "patch_size": [8, 8],
        }  # fmt: skip
        return transformers.InternVLConfig(
            vision_config=vision, text_config=text_config("Qwen2Config", vocabulary),
            image_token_id=ids["<IMG_CONTEXT>"], image_seq_length=4, downsample_ratio=0.5, tie_word_embeddings=False,
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("GotOcr2")(size={"height": SIDE, "width": SIDE}, crop_to_patches=False)
        return without_video(transformers.InternVLProcessor)(images, tokenizer, image_seq_length=4)

    return Tiny("<IMG_CONTEXT>\n", special, make, processor)


def _gemma3() -> Tiny:
    special = (
        "<|im_end|>",
        "<pad>",
        "<|im_start|>",
        "<start_of_image>",
        "<image_soft_token>",
        "<end_of_image>",
        "<bos>",
    )

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        text = {
            **TEXT, "vocab_size": vocabulary, "head_dim": 12, "sliding_window": 64, "tie_word_embeddings": True,
            "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 12,
        }  # fmt: skip
        return transformers.Gemma3Config(
            text_config=text, vision_config={**SIGLIP, "vision_use_head": False}, mm_tokens_per_image=4,
            boi_token_index=ids["<start_of_image>"], eoi_token_index=ids["<end_of_image>"],
            image_token_index=ids["<image_soft_token>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("Gemma3")(size={"height": SIDE, "width": SIDE}, do_pan_and_scan=False)
        return transformers.Gemma3Processor(images, tokenizer, image_seq_length=4)

    return Tiny("<start_of_image>", special, make, processor)


def _mllama() -> Tiny:
    special = ("<|im_end|>", "<pad>", "<|im_start|>", "<|image|>")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        text = {
            **TEXT, "vocab_size": vocabulary - 1, "num_hidden_layers": 4, "cross_attention_layers": [1, 3],
            "pad_token_id": ids["<pad>"], "bos_token_id": 0, "eos_token_id": ids["<|im_end|>"],
            "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        }  # fmt: skip
        vision = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1,
            "attention_heads": 2, "image_size": SIDE, "patch_size": 8, "max_num_tiles": 2,
            "intermediate_layers_indices": [0, 1], "vision_output_dim": 96,
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
        }  # fmt: skip
        return transformers.MllamaConfig(vision_config=vision, text_config=text, image_token_index=ids["<|image|>"])

    def processor(tokenizer: Any) -> Any:
        tokenizer.bos_token = "<|im_start|>"
        images = pil_processor("Mllama")(size={"height": SIDE, "width": SIDE}, max_image_tiles=2)
        return transformers.MllamaProcessor(images, tokenizer)

    return Tiny("<|image|>", special, make, processor)


def _paligemma() -> Tiny:
    special = ("<|im_end|>", "<pad>", "<|im_start|>", "<image>", "<bos>")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        text = transformers.GemmaConfig(**{**TEXT, "head_dim": 12}, vocab_size=vocabulary)
        vision = transformers.SiglipVisionConfig(**SIGLIP, projection_dim=WIDTH, vision_use_head=False)
        return transformers.PaliGemmaConfig(
            vision_config=vision, text_config=text, image_token_index=ids["<image>"], projection_dim=WIDTH
        )

    def processor(tokenizer: Any) -> Any:
        tokenizer.bos_token = "<bos>"
        images = pil_processor("Siglip")(size={"height": SIDE, "width": SIDE})
        images.image_seq_length = (SIDE // 8) ** 2
        return transformers.PaliGemmaProcessor(images, tokenizer)

    return Tiny("<image>", special, make, processor)


def pil_processor(kind: str) -> Any:
    return getattr(transformers, f"{kind}ImageProcessorPil")


def without_video(original: Any) -> Any:
    """The processor class for machines without torchvision, which video processors want."""

    class ImagesOnly(original):  # type: ignore[misc]  # a class that transformers names at run time
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [a for a in original.get_attributes() if "video" not in a]

    ImagesOnly.__name__ = original.__name__
    return ImagesOnly


NAMED: dict[str, dict[str, str]] = {
    "internvl": {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "glm4v": {"image_token": "<|image|>", "video_token": "<|video|>"},
    "gemma3": {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    "gemma4": {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "video_token": "<|video|>",
        "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    },
}  # fmt: skip
NAMED["diffusion_gemma"] = NAMED["gemma4"]
FAMILIES: dict[str, Tiny] = {
    "idefics2": idefics_family("Idefics2"),
    "idefics3": idefics_family("Idefics3"),
    "qwen2_vl": qwen_family("Qwen2VL"),
    "qwen2_5_vl": qwen_family("Qwen2_5_VL"),
    "qwen3_vl": qwen_family("Qwen3VL"),
    "llava": _llava("Llava"),
    "llava_onevision": _llava("LlavaOnevision"),
    "internvl": _internvl(),
    "gemma3": _gemma3(),
    "mllama": _mllama(),
    "paligemma": _paligemma(),
}
