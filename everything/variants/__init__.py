"""VARIANTS: every model, by name.

To add one: a record below and, where no file here builds its network yet, a short file with
`build(state, **options) -> Model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from everything.variants.weights import Weights


@dataclass(frozen=True)
class VariantRecord:
    """What there is to know of a variant before it is loaded.

    module: the file of this package whose `build` makes it, with `options`. weights: where they
    come from. preset: defaults of the recipe's groups that this variant changes.
    """

    module: str
    family: str
    summary: str
    parameters: int
    input_rule: str
    licence: str
    weights: Weights
    options: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_META = "https://dl.fbaipublicfiles.com/segment_anything"


def _sam(size: str, parameters: int, file: str, sha256: str, **options: Any) -> VariantRecord:
    return VariantRecord(
        module="sam",
        family="SAM",
        summary=f"Segment Anything, ViT-{size} (Kirillov et al., 2023)",
        parameters=parameters,
        input_rule="longest side to 1024 px, padded",
        licence="Apache-2.0",
        weights=Weights(f"{_META}/{file}", sha256),
        options=options,
    )


VARIANTS: dict[str, VariantRecord] = {
    "ucm": VariantRecord(
        module="ucm",
        family="embedded",
        summary="boundary network and region tree, trained here, needs no download",
        parameters=0,
        input_rule="longest side to at most 640 px",
        licence="weights: non-commercial research (BSDS500)",
        weights=Weights("package:ucm.safetensors"),
        preset={
            "decoding": {"points_per_batch": 4096},
            "filters": {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.0},
            "nms": {"kind": "mask", "box_nms_thresh": 0.85, "crop_nms_thresh": 0.85},
        },
    ),
    "sam-vit-b": _sam(
        "B",
        93_735_472,
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        embed_dim=768,
        depth=12,
        num_heads=12,
        global_attn_indexes=(2, 5, 8, 11),
    ),
    "sam-vit-l": _sam(
        "L",
        312_342_832,
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        global_attn_indexes=(5, 11, 17, 23),
    ),
    "sam-vit-h": _sam(
        "H",
        641_090_608,
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        embed_dim=1280,
        depth=32,
        num_heads=16,
        global_attn_indexes=(7, 15, 23, 31),
    ),
}
