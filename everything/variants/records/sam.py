"""Meta's SAM, SAM 2 and SAM 2.1, and SlimSAM, which is SAM pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everything.variants.checkpoints.weights import Weights
from everything.variants.spec import APACHE, HUGGING_FACE, PADDED, STRETCHED, VariantRecord

_META = "https://dl.fbaipublicfiles.com/segment_anything"


def _sam(size: str, parameters: int, file: str, sha256: str) -> VariantRecord:
    return VariantRecord(
        module="everything.variants.networks.sam",
        family="SAM",
        summary=f"Segment Anything, ViT-{size.upper()} (Kirillov et al., 2023)",
        parameters=parameters,
        input_rule=PADDED,
        licence=APACHE,
        weights=Weights(f"{_META}/{file}", sha256),
        options=VITS[size],
    )


def _slimsam(percent: int, parameters: int, width: int, mlp_dim: int) -> VariantRecord:
    return VariantRecord(
        module="everything.variants.networks.sam",
        family="SlimSAM",
        summary=f"SAM-B with {percent} % of its widths pruned, uniform (Chen et al., 2023)",
        parameters=parameters,
        input_rule=PADDED,
        licence=APACHE,
        # Its authors' file for transformers; the one on Google Drive loads with --checkpoint.
        weights=Weights(
            f"{HUGGING_FACE}/Zigeng/SlimSAM-uniform-{percent}/resolve/main/model.safetensors",
            file=f"SlimSAM-uniform-{percent}.safetensors",
        ),
        options={
            "embed_dim": width,
            "depth": 12,
            "num_heads": 12,
            "global_attn_indexes": (2, 5, 8, 11),
            "mlp_dim": mlp_dim,
        },
    )


def _sam2(version: str, size: str, parameters: int, sha256: str = "") -> VariantRecord:
    folder = "072824" if version == "2" else "092824"
    return VariantRecord(
        module="everything.variants.networks.sam2",
        family=f"SAM {version}",
        summary=f"SAM {version}, Hiera {size.replace('_', ' ')} (Ravi et al., 2024); stills",
        parameters=parameters,
        input_rule=STRETCHED,
        licence=APACHE,
        weights=Weights(f"{_META}_2/{folder}/sam{version}_hiera_{size}.pt", sha256),
        options=_HIERA[size],
        preset=SAM2_THRESHOLDS,
        decoding=("use_m2m",),
    )


SAM2_THRESHOLDS: Mapping[str, Mapping[str, Any]] = {
    "filters": {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.95}
}
"""Those of SAM2AutomaticMaskGenerator."""
VITS: Mapping[str, Mapping[str, Any]] = {
    "b": {
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "global_attn_indexes": (2, 5, 8, 11),
    },
    "l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
    },
    "h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
    },
}
"""The image encoders of SAM, by size."""
_HIERA: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"embed_dim": 96, "heads": 1, "stages": (1, 2, 7, 2), "global_blocks": (5, 7, 9)},
    "small": {"embed_dim": 96, "heads": 1, "stages": (1, 2, 11, 2), "global_blocks": (7, 10, 13)},
    "base_plus": {
        "embed_dim": 112,
        "heads": 2,
        "stages": (2, 3, 16, 3),
        "global_blocks": (12, 16, 20),
        "background": (14, 14),
    },
    "large": {
        "embed_dim": 144,
        "heads": 2,
        "stages": (2, 6, 36, 4),
        "global_blocks": (23, 33, 43),
        "windows": (8, 4, 16, 8),
    },
}

SAM: dict[str, VariantRecord] = {
    "sam-vit-b": _sam(
        "b",
        93_735_472,
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam-vit-l": _sam(
        "l",
        312_342_832,
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam-vit-h": _sam(
        "h",
        641_090_608,
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "slimsam-50": _slimsam(50, 27_961_776, 384, 1536),
    "slimsam-77": _slimsam(77, 9_723_528, 168, 696),
    "sam2-hiera-t": _sam2("2", "tiny", 38_945_986),
    "sam2-hiera-s": _sam2("2", "small", 46_043_842),
    "sam2-hiera-b+": _sam2("2", "base_plus", 80_833_666),
    "sam2-hiera-l": _sam2("2", "large", 224_430_130),
    "sam2.1-hiera-t": _sam2(
        "2.1",
        "tiny",
        38_962_498,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    "sam2.1-hiera-s": _sam2(
        "2.1",
        "small",
        46_060_354,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    "sam2.1-hiera-b+": _sam2(
        "2.1",
        "base_plus",
        80_850_178,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    "sam2.1-hiera-l": _sam2(
        "2.1",
        "large",
        224_446_642,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    ),
}
