"""The models that were trained here and come with the program."""

from __future__ import annotations

from everything.variants.checkpoints.reader import Weights
from everything.variants.spec import VariantRecord

EMBEDDED: dict[str, VariantRecord] = {
    "ucm": VariantRecord(
        module="everything.variants.networks.ucm",
        family="embedded",
        summary="bundled: boundary network and region tree; needs no download",
        parameters=2_306_688,
        input_rule="longest side to at most 640 px",
        licence="weights: non-commercial research (BSDS500)",
        weights=Weights("package:ucm.safetensors"),
        # People mark few of the regions that a image has: .23 keeps about 150 masks of one.
        preset={
            "decoding": {"points_per_batch": 4096},
            "filters": {"pred_iou_thresh": 0.23, "stability_score_thresh": 0.0},
            "nms": {"kind": "mask", "box_nms_thresh": 0.9, "crop_nms_thresh": 0.9},
        },
        # A region is certain where nothing above .25 of boundary divides it: see embedded.drawing.
        samplers={"hierarchical": {"high_score_thresh": 18.0}},
    ),
    "nano": VariantRecord(
        module="everything.variants.networks.nano",
        family="embedded",
        summary="bundled: a tiny SAM on ucm's boundary network; needs no download",
        parameters=3_182_192,
        input_rule="longest side to 512 px, padded",
        licence="weights: non-commercial research (BSDS500, COCO, CamVid)",
        weights=Weights("package:nano.safetensors"),
        # Its edges are soft and its scores honest, so SAM's thresholds would keep next to nothing.
        preset={
            "filters": {"pred_iou_thresh": 0.25, "stability_score_thresh": 0.4},
            "nms": {"kind": "mask", "box_nms_thresh": 0.75, "crop_nms_thresh": 0.75},
        },
        # Its logits reach about 8, TinySAM has 8.5: this asks .57 of grid-32 on training images.
        samplers={"hierarchical": {"high_score_thresh": 4.5}},
    ),
}
