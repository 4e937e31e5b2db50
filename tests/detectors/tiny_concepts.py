"""A tiny SAM 3 that answers texts, with a tokenizer of single letters, saved as a folder."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tests.variants.tiny_transformers import sam3_vision, seeded

QUERIES = 12
_SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
_HEADS = {
    "geometry_encoder_config": _SMALL | {"num_layers": 1},
    "detr_encoder_config": _SMALL | {"num_layers": 2},
    "detr_decoder_config": _SMALL | {"num_layers": 2, "num_queries": QUERIES},
    "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
}
_TEXT = _SMALL | {"vocab_size": 54, "projection_dim": 16, "num_hidden_layers": 2}
_TEXT |= {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}


def sam3() -> Any:
    """SAM 3's detector for 112 px."""
    from transformers import Sam3Config, Sam3Model

    text = _TEXT | {"model_type": "clip_text_model", "max_position_embeddings": 32}
    return Sam3Model(Sam3Config(vision_config=_vision(), text_config=text, **_HEADS))


def sam3_lite_text() -> Any:
    """The same with EfficientSAM3's text encoder."""
    from transformers import Sam3LiteTextConfig, Sam3LiteTextModel

    text = _TEXT | {"max_position_embeddings": 32, "num_hidden_layers": 3}
    return Sam3LiteTextModel(
        Sam3LiteTextConfig(vision_config=_vision(), text_config=text, **_HEADS)
    )


KINDS = {"sam3": sam3, "sam3_lite_text": sam3_lite_text}


def save(folder: Path, kind: str = "sam3") -> tuple[Any, Any]:
    """Save a network with seeded values and its processor; return both."""
    from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Processor

    letters = [*string.ascii_lowercase, *(f"{c}</w>" for c in string.ascii_lowercase)]
    words = [*letters, "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[])
    images = Sam3ImageProcessor(size={"height": 112, "width": 112})
    network, processor = KINDS[kind](), Sam3Processor(images, tokenizer)
    seeded(network)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network.eval(), processor


def _vision() -> dict[str, Any]:
    # The detector leaves the coarsest map out.
    return sam3_vision() | {"scale_factors": [4.0, 2.0, 1.0, 0.5]}
