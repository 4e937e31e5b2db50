"""The bundled models, which were trained here."""

from __future__ import annotations

from typing import Any

from everything.variants.checkpoints.weights import Weights
from everything.variants.spec import VariantRecord

# Annotators outline few of an image's regions: .23 keeps about 150 masks per image.
_UCM_PRESET: dict[str, dict[str, Any]] = {
    "decoding": {"points_per_batch": 4096},
    "filters": {"pred_iou_thresh": 0.23, "stability_score_thresh": 0.0},
    "nms": {"kind": "mask", "box_nms_thresh": 0.9, "crop_nms_thresh": 0.9},
}
# By the 30 images held out of training, .92 finds more than .9 and costs 2 % more masks.
_UCM_LITE0_PRESET: dict[str, dict[str, Any]] = {
    "decoding": {"points_per_batch": 4096},
    "filters": {"pred_iou_thresh": 0.23, "stability_score_thresh": 0.0},
    "nms": {"kind": "mask", "box_nms_thresh": 0.92, "crop_nms_thresh": 0.92},
}
# Its masks have soft edges and calibrated scores: SAM's thresholds would keep almost none. Its
# logits reach about 8, TinySAM's threshold is 8.5; with 4.5, .57 of grid-32's prompts remain.
_NANO_PRESET: dict[str, dict[str, Any]] = {
    "filters": {"pred_iou_thresh": 0.25, "stability_score_thresh": 0.4},
    "nms": {"kind": "mask", "box_nms_thresh": 0.75, "crop_nms_thresh": 0.75},
}
BUNDLED: dict[str, VariantRecord] = {
    "ucm": VariantRecord(
        module="everything.variants.networks.ucm",
        family="embedded",
        summary="bundled: boundary network and region tree, the former default",
        parameters=2_306_688,
        input_rule="longest side to at most 640 px",
        licence="weights: non-commercial research (BSDS500)",
        weights=Weights("package:ucm.safetensors"),
        preset=_UCM_PRESET,
        # A region is certain where no contour above .25 divides it (bundled/region_masks.py).
        samplers={"hierarchical": {"high_score_thresh": 18.0}},
        images_per_worker=8,
        on_cpu=True,
    ),
    "ucm-lite0": VariantRecord(
        module="everything.variants.networks.ucm",
        family="embedded",
        summary="bundled: boundary network on an ImageNet encoder, and region tree; no download",
        parameters=4_187_896,
        input_rule="longest side to at most 640 px",
        licence="weights: non-commercial research (BSDS500)",
        weights=Weights("package:ucm_lite0.safetensors"),
        options={"backbone": "lite0"},
        preset=_UCM_LITE0_PRESET,
        # The same contour: its strength is the probability's power of .3, .66.
        samplers={"hierarchical": {"high_score_thresh": 13.9}},
        images_per_worker=8,
        on_cpu=True,
    ),
    "nano": VariantRecord(
        module="everything.variants.networks.nano",
        family="embedded",
        summary="bundled: a tiny SAM on ucm's boundary network; needs no download",
        parameters=3_182_192,
        input_rule="longest side to 512 px, padded",
        licence="weights: non-commercial research (BSDS500, COCO, CamVid)",
        weights=Weights("package:nano.safetensors"),
        preset=_NANO_PRESET,
        samplers={"hierarchical": {"high_score_thresh": 4.5}},
    ),
    "nano-lite0": VariantRecord(
        module="everything.variants.networks.nano",
        family="embedded",
        summary="bundled: a tiny SAM on ucm-lite0's boundary network; needs no download",
        parameters=5_092_400,
        input_rule="longest side to 512 px, padded",
        licence="weights: non-commercial research (BSDS500, COCO, CamVid)",
        weights=Weights("package:nano_lite0.safetensors"),
        options={"backbone": "lite0"},
        preset=_NANO_PRESET,
        samplers={"hierarchical": {"high_score_thresh": 4.5}},
    ),
}
