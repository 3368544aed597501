"""More families for tiny_vlm.py, and some that cannot be shown demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from flamingo_eval.backends.hf.processor import NoVideo, images_only, pixtral_processor
from tests.support.tiny_vlm import (
    HALF,
    SIDE,
    SIGLIP,
    TEXT,
    WIDTH,
    Tiny,
    idefics_family,
    pil_processor,
    qwen_family,
    text_config,
    without_video,
)

COMMON = ("<|im_end|>", "<pad>", "<|im_start|>")
SQUARE = {"height": SIDE, "width": SIDE}
PINPOINTS = [[32, 32], [32, 64], [64, 32]]
SLIDING = {"head_dim": 12, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}


def _smolvlm() -> Tiny:
    family = idefics_family("SmolVLM")

    def processor(tokenizer: Any) -> Any:
        size = {"longest_edge": SIDE}
        images = pil_processor("SmolVLM")(
            size=size, max_image_size=size, do_image_splitting=False, image_mean=HALF, image_std=HALF
        )
        return images_only(transformers.SmolVLMProcessor)(images, tokenizer, NoVideo(), image_seq_len=4)

    return Tiny(family.image, (*family.special, "<global-img>"), family.make, processor)


def _llava_next() -> Tiny:
    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        return transformers.LlavaNextConfig(
            vision_config=transformers.SiglipVisionConfig(**SIGLIP, vision_use_head=False), vision_feature_layer=-1,
            text_config=text_config("LlamaConfig", vocabulary), image_token_index=ids["<image>"],
            vision_feature_select_strategy="full", image_grid_pinpoints=PINPOINTS, tie_word_embeddings=False,
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("LlavaNext")(size=SQUARE, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS)
        return transformers.LlavaNextProcessor(images, tokenizer, patch_size=8, vision_feature_select_strategy="full")

    return Tiny("<image>\n", (*COMMON, "<image>"), make, processor)


def _aya_vision() -> Tiny:
    tiles = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_1", "TILE_GLOBAL")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        return transformers.AyaVisionConfig(
            vision_config=transformers.SiglipVisionConfig(**SIGLIP, vision_use_head=False),
            text_config=transformers.Cohere2Config(**TEXT, **SLIDING, vocab_size=vocabulary),
            image_token_index=ids["<|IMG_PATCH|>"], downsample_factor=2,
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("GotOcr2")(size=SQUARE)
        return transformers.AyaVisionProcessor(images, tokenizer, patch_size=8, img_size=SIDE, downsample_factor=2)

    return Tiny("<image>", (*COMMON, "<image>", *tiles), make, processor)


def _glm4v() -> Tiny:
    marks = ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>",
             "<|end_of_video|>")  # fmt: skip

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2], "partial_rotary_factor": 1.0}
        vision = {
            "depth": 2, "hidden_size": 32, "num_heads": 2, "image_size": SIDE, "patch_size": 4,
            "out_hidden_size": WIDTH, "intermediate_size": 64, "spatial_merge_size": 2, "temporal_patch_size": 2,
        }  # fmt: skip
        return transformers.Glm4vConfig(
            text_config={**TEXT, "vocab_size": vocabulary, "head_dim": 12, "rope_parameters": rope},
            vision_config=vision, image_token_id=ids["<|image|>"], video_token_id=ids["<|video|>"],
            image_start_token_id=ids["<|begin_of_image|>"], image_end_token_id=ids["<|end_of_image|>"],
            video_start_token_id=ids["<|begin_of_video|>"], video_end_token_id=ids["<|end_of_video|>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        size = {"shortest_edge": 256, "longest_edge": 2048}
        images = pil_processor("Glm4v")(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
        return without_video(transformers.Glm4vProcessor)(images, tokenizer)

    return Tiny("<|begin_of_image|><|image|><|end_of_image|>", (*COMMON, *marks), make, processor)


def _gemma4() -> Tiny:
    marks = ("<|image|>", "<|audio|>", "<|video|>", "<|image>", "<image|>", "<|audio>", "<audio|>", "<bos>")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        text = {
            **TEXT, **SLIDING, "vocab_size": vocabulary, "global_head_dim": 12, "num_kv_shared_layers": 0,
            "vocab_size_per_layer_input": vocabulary, "hidden_size_per_layer_input": 0,
        }  # fmt: skip
        vision = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 16, "patch_size": 8, "pooling_kernel_size": 2,
        }  # fmt: skip
        return transformers.Gemma4Config(
            text_config=text, vision_config=vision, audio_config=None, image_token_id=ids["<|image|>"],
            boi_token_id=ids["<|image>"], eoi_token_id=ids["<image|>"], video_token_id=ids["<|video|>"],
            audio_token_id=ids["<|audio|>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("Gemma4")(patch_size=8, max_soft_tokens=70, pooling_kernel_size=2)
        audio = transformers.Gemma4AudioFeatureExtractor()
        return images_only(transformers.Gemma4Processor)(audio, images, tokenizer, NoVideo(), image_seq_length=70)

    return Tiny("<|image|>", (*COMMON, *marks), make, processor)


def _mistral3() -> Tiny:
    """Its processor, Pixtral's, is only offered by transformers beside torchvision, but does without."""

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        vision = transformers.PixtralVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=64,
            patch_size=8,
        )
        return transformers.Mistral3Config(
            vision_config=vision, text_config=text_config("MistralConfig", vocabulary, sliding_window=None),
            image_token_index=ids["[IMG]"], spatial_merge_size=2, vision_feature_layer=-1,
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = pil_processor("Pixtral")(size={"longest_edge": SIDE}, patch_size={"height": 16, "width": 16})
        return pixtral_processor()(images, tokenizer, patch_size=8, spatial_merge_size=2)

    return Tiny("[IMG]", (*COMMON, "[IMG]", "[IMG_BREAK]", "[IMG_END]"), make, processor)


def _video_llava() -> Tiny:
    """Its processor takes the video processor before the tokenizer."""

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        vision = {
            "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8,
        }  # fmt: skip
        return transformers.VideoLlavaConfig(
            vision_config=vision, text_config=text_config("LlamaConfig", vocabulary), vision_feature_layer=-1,
            image_token_index=ids["<image>"], video_token_index=ids["<video>"], image_seq_length=16,
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        images = transformers.VideoLlavaImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE)
        return images_only(transformers.VideoLlavaProcessor)(
            images, NoVideo(), tokenizer, patch_size=8, vision_feature_select_strategy="default"
        )

    return Tiny("<image>\n", (*COMMON, "<image>", "<video>"), make, processor)


def _qwen3_5() -> Tiny:
    """Every other layer is linear attention, with a state instead of keys and values."""
    family = qwen_family("Qwen3VL")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 2], "mrope_interleaved": True,
                "partial_rotary_factor": 1.0}  # fmt: skip
        text = {
            **TEXT, "vocab_size": vocabulary, "rope_parameters": rope, "head_dim": 12, "linear_num_key_heads": 2,
            "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 2,
            "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        }  # fmt: skip
        vision = {
            "depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "hidden_size": 32,
            "intermediate_size": 64, "out_hidden_size": WIDTH, "temporal_patch_size": 2, "num_position_embeddings": 64,
        }  # fmt: skip
        return transformers.Qwen3_5Config(
            text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )  # fmt: skip

    return Tiny(family.image, family.special, make, family.processor)


def _blip2() -> Tiny:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        text = transformers.OPTConfig(
            vocab_size=vocabulary, hidden_size=WIDTH, num_hidden_layers=2, ffn_dim=96, num_attention_heads=4,
            max_position_embeddings=2048, word_embed_proj_dim=WIDTH,
        )  # fmt: skip
        return transformers.Blip2Config(
            vision_config={**small, "image_size": SIDE, "patch_size": 8}, text_config=text, num_query_tokens=4,
            qformer_config={**small, "encoder_hidden_size": 32, "vocab_size": 30}, image_token_index=ids["<image>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        return transformers.Blip2Processor(pil_processor("Blip")(size=SQUARE), tokenizer, num_query_tokens=4)

    return Tiny("<image>", (*COMMON, "<image>"), make, processor)


def _got_ocr2() -> Tiny:
    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        vision = {
            "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 64,
        }  # fmt: skip
        return transformers.GotOcr2Config(
            vision_config=vision, text_config=text_config("Qwen2Config", vocabulary), image_seq_length=1,
            image_token_index=ids["<imgpad>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        return transformers.GotOcr2Processor(pil_processor("GotOcr2")(size={"height": 64, "width": 64}), tokenizer)

    return Tiny("<img><imgpad></img>", (*COMMON, "<imgpad>", "<img>", "</img>"), make, processor)


def _cosmos3_edge() -> Tiny:
    """Its positions need the kinds of tokens, which its processor returns only if asked for them."""
    qwen = qwen_family("Qwen3VL")

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
        text = {**TEXT, "vocab_size": vocabulary, "head_dim": 12, "rope_parameters": rope}
        vision = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "patch_size": 4, "num_patches": 64,
        }  # fmt: skip
        return transformers.Cosmos3EdgeConfig(
            text_config=text, vision_config=vision, projector_hidden_size=64, image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )  # fmt: skip

    def processor(tokenizer: Any) -> Any:
        size = {"shortest_edge": 256, "longest_edge": 1024}
        images = pil_processor("Cosmos3Edge")(patch_size=4, merge_size=2, size=size)
        return without_video(transformers.Cosmos3EdgeProcessor)(images, tokenizer)

    return Tiny(qwen.image, qwen.special, make, processor)


def _diffusion_gemma() -> Tiny:
    """It fills in a canvas instead of continuing a prompt token by token."""
    gemma = _gemma4()

    def make(ids: Mapping[str, int], vocabulary: int) -> Any:
        experts = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
        return transformers.DiffusionGemmaConfig(
            text_config={**TEXT, **SLIDING, **experts, "vocab_size": vocabulary},
            vision_config=gemma.make(ids, vocabulary).vision_config.to_dict(), canvas_length=16,
            boi_token_id=ids["<|image>"], eoi_token_id=ids["<image|>"], image_token_id=ids["<|image|>"],
        )  # fmt: skip

    return Tiny(gemma.image, gemma.special, make, gemma.processor)


MORE_FAMILIES: dict[str, Tiny] = {
    "smolvlm": _smolvlm(),
    "llava_next": _llava_next(),
    "aya_vision": _aya_vision(),
    "glm4v": _glm4v(),
    "gemma4": _gemma4(),
    "mistral3": _mistral3(),
    "video_llava": _video_llava(),
    "qwen3_5": _qwen3_5(),
    "cosmos3_edge": _cosmos3_edge(),
}
NO_DEMONSTRATIONS: dict[str, Tiny] = {
    "blip-2": _blip2(),
    "got_ocr2": _got_ocr2(),
    "diffusion_gemma": _diffusion_gemma(),
}
