"""EfficientViT-SAM and EfficientSAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everything.variants.checkpoints.weights import Weights
from everything.variants.spec import (
    APACHE,
    GITHUB,
    HUGGING_FACE,
    PADDED,
    PADDED_512,
    STRETCHED,
    VariantRecord,
)


def _efficientvit(size: str, parameters: int, sha256: str = "", **options: Any) -> VariantRecord:
    small = size.startswith("l")
    return VariantRecord(
        module="everything.variants.networks.efficientvit",
        family="EfficientViT-SAM",
        summary=f"EfficientViT-{size.upper()} distilled from SAM-H (Zhang et al., 2024)",
        parameters=parameters,
        input_rule=PADDED_512 if small else PADDED,
        licence=APACHE,
        weights=Weights(
            f"{HUGGING_FACE}/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_{size}.pt",
            sha256,
        ),
        options={**(_EFFICIENTVIT_L if small else _EFFICIENTVIT_XL), **options},
    )


def _efficientsam(size: str, parameters: int, file: str, width: int, heads: int) -> VariantRecord:
    return VariantRecord(
        module="everything.variants.networks.efficientsam",
        family="EfficientSAM",
        summary=f"ViT-{size} trained on SAM's features, own decoder (Xiong et al., 2023)",
        parameters=parameters,
        input_rule=STRETCHED,
        licence=APACHE,
        weights=Weights(f"{GITHUB}/yformer/EfficientSAM/raw/main/weights/{file}"),
        options={"embed_dim": width, "heads": heads},
        # Thresholds of its authors' everything notebook, whose other steps docs/variants.md names.
        preset={"filters": {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.9}},
    )


_EFFICIENTVIT_L: Mapping[str, Any] = {
    "shrink": 2,
    "widths": (32, 64, 128, 256, 512),
    "kinds": ("fused", "fused", "inverted", "attention"),
    "kernel": 5,
    "neck_expand": 1,
}
_EFFICIENTVIT_XL: Mapping[str, Any] = {
    "widths": (32, 64, 128, 256, 512, 1024),
    "kinds": ("fused", "fused", "fused", "attention", "attention"),
    "kernel": 3,
    "neck_expand": 4,
}

EFFICIENT: dict[str, VariantRecord] = {
    "efficientvit-sam-l0": _efficientvit(
        "l0",
        34_792_784,
        "c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8",
        depths=(1, 1, 1, 4, 4),
        neck_depth=4,
    ),
    "efficientvit-sam-l1": _efficientvit("l1", 47_650_128, depths=(1, 1, 1, 6, 6), neck_depth=8),
    "efficientvit-sam-l2": _efficientvit("l2", 61_328_592, depths=(1, 2, 2, 8, 8), neck_depth=12),
    "efficientvit-sam-xl0": _efficientvit(
        "xl0", 116_957_904, depths=(0, 1, 1, 2, 3, 3), neck_depth=6
    ),
    "efficientvit-sam-xl1": _efficientvit(
        "xl1", 203_346_128, depths=(1, 2, 2, 4, 6, 6), neck_depth=12
    ),
    "efficientsam-ti": _efficientsam("Tiny", 10_223_204, "efficient_sam_vitt.pt", 192, 3),
    "efficientsam-s": _efficientsam("Small", 26_413_028, "efficient_sam_vits.pt.zip", 384, 6),
}
