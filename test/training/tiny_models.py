# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Grounding DINO, SAM and SAM 2 with random weights and a few channels, saved as their real checkpoints are."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ("traffic", "cone", "road", "sky", "car", "person", "tree")


def save_grounding_dino(folder: Path) -> str:
    import transformers as hf

    # The model knows [CLS], [SEP], "." and "?" by BERT's ids: they separate phrases.
    words = [f"[unused{number}]" for number in range(1100)]
    for number, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}.items():
        words[number] = word
    words[200 : 200 + len(WORDS)] = WORDS
    tokenizer = hf.BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    images = hf.GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    hf.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    text = {"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    swin = {"image_size": 64, "embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}
    config = hf.GroundingDinoConfig(
        backbone_config=hf.SwinConfig(**swin, out_indices=[2, 3, 4]),
        text_config=hf.BertConfig(**text, max_position_embeddings=64),
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
        max_text_len=16,
    )
    torch.manual_seed(0)
    hf.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    return _as_published(folder)


def save_sam(folder: Path) -> str:
    import transformers as hf

    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    config = hf.SamConfig(
        vision_config=hf.SamVisionConfig(**vision, image_size=64, window_size=2, global_attn_indexes=[0], num_pos_feats=8),
        prompt_encoder_config=hf.SamPromptEncoderConfig(hidden_size=16, image_size=64, mask_input_channels=4),
        mask_decoder_config=hf.SamMaskDecoderConfig(**decoder),
    )
    torch.manual_seed(0)
    hf.SamModel(config).save_pretrained(folder)
    square = {"pad_size": {"height": 64, "width": 64}, "mask_pad_size": {"height": 16, "width": 16}}
    images = hf.SamImageProcessorPil(size={"longest_edge": 64}, mask_size={"longest_edge": 16}, **square)
    hf.SamProcessor(images).save_pretrained(folder)
    return _as_published(folder)


def save_sam2(folder: Path) -> str:
    import transformers as hf

    stages = {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1] * 4}
    windows = {"window_size_per_stage": [4, 4, 2, 2], "window_positional_embedding_background_size": [4, 4]}
    backbone = hf.Sam2HieraDetConfig(hidden_size=8, image_size=[64, 64], **stages, **windows, global_attention_blocks=[3])
    pyramid = {"backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    decoder = {"hidden_size": 32, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    config = hf.Sam2Config(
        vision_config=hf.Sam2VisionConfig(backbone_config=backbone, **pyramid, fpn_hidden_size=32),
        prompt_encoder_config=hf.Sam2PromptEncoderConfig(hidden_size=32, image_size=64, mask_input_channels=4),
        mask_decoder_config=hf.Sam2MaskDecoderConfig(**decoder),
    )
    torch.manual_seed(0)
    hf.Sam2Model(config).save_pretrained(folder)
    return str(folder)


def _as_published(folder: Path) -> str:
    """The published checkpoints have preprocessor_config.json, the older form of processor_config.json."""
    saved = folder / "processor_config.json"
    content = json.loads(saved.read_text())
    older = {**content["image_processor"], "processor_class": content["processor_class"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(older))
    saved.unlink()
    return str(folder)
