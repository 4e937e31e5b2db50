"""HQ-SAM, and EdgeTAM and EfficientTAM ("track anything models") for stills."""

from __future__ import annotations

from typing import Any

from everything.variants.checkpoints.weights import Weights
from everything.variants.records.sam import SAM2_THRESHOLDS, VITS
from everything.variants.spec import (
    APACHE,
    GITHUB,
    HUGGING_FACE,
    PADDED,
    STRETCHED,
    VariantRecord,
)


def _hq_sam(
    size: str, parameters: int, file: str, sha256: str = "", **options: Any
) -> VariantRecord:
    return VariantRecord(
        module="everything.variants.networks.hq_sam",
        family="HQ-SAM",
        summary=f"{size} with a high-quality token (Ke et al., 2023); one mask per prompt",
        parameters=parameters,
        input_rule=PADDED,
        licence=APACHE,
        weights=Weights(f"{HUGGING_FACE}/lkeab/hq-sam/resolve/main/{file}", sha256),
        options=options,
        decoding=("hq_token_only",),
    )


def _efficienttam(
    size: str, parameters: int, sha256: str, side: int = 1024, **options: Any
) -> VariantRecord:
    suffix = "" if side == 1024 else f"_{side}x{side}"
    file = f"efficienttam_{size}{suffix}.pt"
    return VariantRecord(
        module="everything.variants.networks.efficienttam",
        family="EfficientTAM",
        summary=f"SAM 2's decoder on a plain ViT-{size.title()} (Xiong et al., 2024); stills",
        parameters=parameters,
        input_rule=f"stretched to {side} x {side} px",
        licence=APACHE,
        weights=Weights(
            f"{HUGGING_FACE}/yunyangx/efficient-track-anything/resolve/main/{file}", sha256
        ),
        options=options | ({} if side == 1024 else {"side": side}),
        preset=SAM2_THRESHOLDS,
        decoding=("use_m2m",),
    )


HQ_SAM_TAM: dict[str, VariantRecord] = {
    "sam-hq-vit-b": _hq_sam("SAM-B", 94_806_576, "sam_hq_vit_b.pth", **VITS["b"]),
    "sam-hq-vit-l": _hq_sam("SAM-L", 313_676_080, "sam_hq_vit_l.pth", **VITS["l"]),
    "sam-hq-vit-h": _hq_sam(
        "SAM-H",
        642_686_000,
        "sam_hq_vit_h.pth",
        "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35",
        **VITS["h"],
    ),
    "sam-hq-vit-tiny": _hq_sam(
        "MobileSAM's network",
        10_578_604,
        "sam_hq_vit_tiny.pth",
        "0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196",
    ),
    "edgetam": VariantRecord(
        module="everything.variants.networks.edgetam",
        family="EdgeTAM",
        summary="SAM 2's decoder on RepViT-M1 (Zhou et al., 2025); stills",
        parameters=13_895_794,
        input_rule=STRETCHED,
        licence=APACHE,
        weights=Weights(
            f"{GITHUB}/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt",
            "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
        ),
        preset=SAM2_THRESHOLDS,
        decoding=("use_m2m",),
    ),
    "efficienttam-s": _efficienttam(
        "s",
        34_055_842,
        "2b572be30d9e96ee29c8d785fe157c6b079ede7d56fbc8a3671d4120e63c89cd",
        embed_dim=384,
        heads=6,
    ),
    "efficienttam-s-512": _efficienttam(
        "s",
        34_055_842,
        "67b5840012737ed2c94a4cb8787c5c1b27b3a946045d2e602e65ef77230b6085",
        512,
        embed_dim=384,
        heads=6,
    ),
    "efficienttam-ti": _efficienttam(
        "ti",
        17_866_018,
        "acbb17b28cca1f860acee09c9ecb6efdb732080dc7a85a07292c31813175fa7d",
        embed_dim=192,
        heads=3,
    ),
    "efficienttam-ti-512": _efficienttam(
        "ti",
        17_866_018,
        "7d4d652a465f0081391050932f45d8a66768ccc99c8ea393ce8a5927e83f3b9b",
        512,
        embed_dim=192,
        heads=3,
    ),
}
