"""VARIANTS: every model, by name; UNAVAILABLE: what cannot be one, and why.

To add one: a record below and, where no file here builds its network yet, a short file with
`blueprint(**options) -> Blueprint`, the network and how its checkpoint names it, and
`build(state, path, **options) -> Model`.
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

    @property
    def status(self) -> str:
        """How one gets its weights, in a few words."""
        return self.weights.status


PADDED = "longest side to 1024 px, padded"
STRETCHED = "stretched to 1024 x 1024 px"
PADDED_512 = "longest side to 512 px, padded; prompts at 1024 px"
_APACHE = "Apache-2.0"
_META = "https://dl.fbaipublicfiles.com/segment_anything"
_GITHUB = "https://github.com"
_DRIVE = "https://drive.google.com/file/d"
_ON_DRIVE = "it is on Google Drive, which only lets people in"


def _sam(size: str, parameters: int, file: str, sha256: str, **options: Any) -> VariantRecord:
    return VariantRecord(
        module="sam",
        family="SAM",
        summary=f"Segment Anything, ViT-{size} (Kirillov et al., 2023)",
        parameters=parameters,
        input_rule=PADDED,
        licence=_APACHE,
        weights=Weights(f"{_META}/{file}", sha256),
        options=options,
    )


def _slimsam(percent: int, parameters: int, drive: str, width: int, mlp_dim: int) -> VariantRecord:
    return VariantRecord(
        module="sam",
        family="SlimSAM",
        summary=f"SAM-B with {percent} % of its widths pruned, uniform (Chen et al., 2023)",
        parameters=parameters,
        input_rule=PADDED,
        licence=_APACHE,
        weights=Weights(
            f"{_DRIVE}/{drive}", file=f"SlimSAM-{percent}-uniform.pth", by_hand=_ON_DRIVE
        ),
        options={
            "embed_dim": width,
            "depth": 12,
            "num_heads": 12,
            "global_attn_indexes": (2, 5, 8, 11),
            "mlp_dim": mlp_dim,
        },
    )


def _edgesam(training: str, file: str, sha256: str) -> VariantRecord:
    return VariantRecord(
        module="repvit",
        family="EdgeSAM",
        summary=f"RepViT-M1 with fused maps, {training} (Zhou et al., 2023); scored by stability",
        parameters=9_582_112,
        input_rule=PADDED,
        licence="NTU S-Lab 1.0, non-commercial",
        weights=Weights(
            f"https://huggingface.co/spaces/chongzhou/EdgeSAM/resolve/main/weights/{file}", sha256
        ),
        options={"body": "repvit_m1"},
    )


def _efficientvit(size: str, parameters: int, sha256: str = "", **options: Any) -> VariantRecord:
    small = size.startswith("l")
    return VariantRecord(
        module="efficientvit",
        family="EfficientViT-SAM",
        summary=f"EfficientViT-{size.upper()} distilled from SAM-H (Zhang et al., 2024)",
        parameters=parameters,
        input_rule=PADDED_512 if small else PADDED,
        licence=_APACHE,
        weights=Weights(
            "https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/"
            f"efficientvit_sam_{size}.pt",
            sha256,
        ),
        options={**(_EFFICIENTVIT_L if small else _EFFICIENTVIT_XL), **options},
    )


def _mobilesamv2(encoder: str, parameters: int, input_rule: str = PADDED) -> VariantRecord:
    return VariantRecord(
        module="mobilesamv2",
        family="MobileSAMv2",
        summary=f"{encoder}'s encoder, decoder trained on with boxes (Zhang et al., 2023)",
        parameters=parameters,
        input_rule=input_rule,
        licence=_APACHE,
        weights=Weights(
            f"{_GITHUB}/ChaoningZhang/MobileSAM/raw/master/MobileSAMv2/PromptGuidedDecoder/"
            "Prompt_guided_Mask_Decoder.pt"
        ),
        options={"encoder": encoder},
    )


def _sam2(version: str, size: str, parameters: int, sha256: str = "") -> VariantRecord:
    folder = "072824" if version == "2" else "092824"
    return VariantRecord(
        module="sam2",
        family=f"SAM {version}",
        summary=f"SAM {version}, Hiera {size.replace('_', ' ')} (Ravi et al., 2024); stills",
        parameters=parameters,
        input_rule=STRETCHED,
        licence=_APACHE,
        weights=Weights(f"{_META}_2/{folder}/sam{version}_hiera_{size}.pt", sha256),
        options=_HIERA[size],
        preset={"filters": {"pred_iou_thresh": 0.8}},  # of its own mask generator
    )


def _efficientsam(size: str, parameters: int, file: str, width: int, heads: int) -> VariantRecord:
    return VariantRecord(
        module="efficientsam",
        family="EfficientSAM",
        summary=f"ViT-{size} taught by SAM's features, own decoder (Xiong et al., 2023)",
        parameters=parameters,
        input_rule=STRETCHED,
        licence=_APACHE,
        weights=Weights(f"{_GITHUB}/yformer/EfficientSAM/raw/main/weights/{file}"),
        options={"embed_dim": width, "heads": heads},
        # Of its authors' everything notebook.
        preset={"filters": {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.9}},
    )


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

VARIANTS: dict[str, VariantRecord] = {
    "ucm": VariantRecord(
        module="ucm",
        family="embedded",
        summary="boundary network and region tree, trained here, needs no download",
        parameters=2_306_688,
        input_rule="longest side to at most 640 px",
        licence="weights: non-commercial research (BSDS500)",
        weights=Weights("package:ucm.safetensors"),
        # Predicted IoU is calibrated on what people mark: .15 keeps about 100 masks of a photo.
        preset={
            "decoding": {"points_per_batch": 4096},
            "filters": {"pred_iou_thresh": 0.15, "stability_score_thresh": 0.0},
            "nms": {"kind": "mask", "box_nms_thresh": 0.9, "crop_nms_thresh": 0.9},
        },
    ),
    "nano": VariantRecord(
        module="nano",
        family="embedded",
        summary="a tiny SAM grown on ucm's boundary network, trained here, needs no download",
        parameters=3_182_192,
        input_rule="longest side to 512 px, padded",
        licence="weights: non-commercial research (BSDS500, COCO, CamVid)",
        weights=Weights("package:nano.safetensors"),
        # Its edges are soft and its scores honest, so SAM's thresholds would keep next to nothing.
        preset={
            "filters": {"pred_iou_thresh": 0.25, "stability_score_thresh": 0.4},
            "nms": {"kind": "mask", "box_nms_thresh": 0.75, "crop_nms_thresh": 0.75},
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
    "mobilesam": VariantRecord(
        module="tinyvit",
        family="MobileSAM",
        summary="TinyViT-5M distilled from SAM-H (Zhang et al., 2023)",
        parameters=10_130_092,
        input_rule=PADDED,
        licence=_APACHE,
        weights=Weights(
            f"{_GITHUB}/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        ),
    ),
    "tinysam": VariantRecord(
        module="tinyvit",
        family="TinySAM",
        summary="MobileSAM's network, distilled in full stages (Shu et al., 2023)",
        parameters=10_130_092,
        input_rule=PADDED,
        licence=_APACHE,
        weights=Weights(f"{_GITHUB}/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth"),
    ),
    "repvit-sam": VariantRecord(
        module="repvit",
        family="RepViT-SAM",
        summary="RepViT-M2.3 distilled from SAM-H (Wang et al., 2023)",
        parameters=27_223_480,
        input_rule=PADDED,
        licence=_APACHE,
        weights=Weights(f"{_GITHUB}/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt"),
        options={"body": "repvit_m2_3"},
    ),
    "edgesam": _edgesam(
        "prompt-in-the-loop distillation",
        "edge_sam.pth",
        "439b086a20ab6fba90c12cba32e0001ba3aa726da5791ff8738acdd440330991",
    ),
    "edgesam-3x": _edgesam(
        "trained three times as long",
        "edge_sam_3x.pth",
        "5a3e3261da9e2f4c8154410885689ae57d09cbf4cf5d0c848b9d80b6df336ece",
    ),
    "slimsam-50": _slimsam(50, 27_961_776, "1Ld7Q2LY8H2nu4zB6VxwwA5npS5A9OHFq", 384, 1536),
    "slimsam-77": _slimsam(77, 9_723_528, "1OeWpfk5WhdlMz5VvYmb9gaE6suzHB0sp", 168, 696),
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
    "mobilesamv2": _mobilesamv2("mobilesam", 10_130_092),
    "mobilesamv2-efficientvit-l2": _mobilesamv2("efficientvit-sam-l2", 61_328_592, PADDED_512),
    "mobilesamv2-vit-h": _mobilesamv2("sam-vit-h", 641_090_608),
    "nanosam": VariantRecord(
        module="nanosam",
        family="NanoSAM",
        summary="ResNet-18 distilled from MobileSAM, with its decoder (NVIDIA, 2023)",
        parameters=19_895_664,
        input_rule="longest side to 1024 px (bicubic, rounded down), padded",
        licence=_APACHE,
        weights=Weights(
            f"{_DRIVE}/14-SsvoaTl-esC3JOzomHDnI9OGgdO2OR",
            file="nanosam_resnet18.pth",
            by_hand="only an ONNX file is published, whose parameters have no names; a checkpoint "
            "of nanosam.tools.train loads",
        ),
    ),
    "efficientsam-ti": _efficientsam("Tiny", 10_223_204, "efficient_sam_vitt.pt", 192, 3),
    "efficientsam-s": _efficientsam("Small", 26_413_028, "efficient_sam_vits.pt.zip", 384, 6),
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


@dataclass(frozen=True)
class Unavailable:
    """A system of the survey that is no variant here, and why."""

    family: str
    summary: str
    reason: str
    licence: str = "none stated"
    parameters: int | None = None


UNAVAILABLE: dict[str, Unavailable] = {
    "samfast-h": Unavailable(
        "SAMfast",
        "SAM-H run fast: bfloat16, compiled, batched (PyTorch, 2023)",
        "a way to run sam-vit-h, not another network",
        _APACHE,
        641_090_608,
    ),
    "fastsam-s": Unavailable(
        "FastSAM",
        "YOLOv8s-seg trained on 2 % of SA-1B (Zhao et al., 2023)",
        "takes no prompts: it is the sampler all-instance",
        "AGPL-3.0",
        11_790_483,
    ),
    "fastsam-x": Unavailable(
        "FastSAM",
        "YOLOv8x-seg trained on 2 % of SA-1B (Zhao et al., 2023)",
        "takes no prompts: it is the sampler all-instance",
        "AGPL-3.0",
        72_234_149,
    ),
    "q-tinysam": Unavailable(
        "TinySAM",
        "TinySAM with 8-bit weights and activations (Shu et al., 2023)",
        "the checkpoint is a pickled module, which would run code; it computes in floats anyway",
        _APACHE,
    ),
    "lite-sam": Unavailable(
        "Lite-SAM",
        "LiteViT with AutoPPN (Fu et al., 2024)",
        "neither code nor weights are published; AutoPPN is the sampler auto-ppn",
        parameters=4_200_000,
    ),
    "squeezesam": Unavailable(
        "SqueezeSAM",
        "U-Net whose input holds the prompts (Varadarajan et al., 2023)",
        "the image is encoded anew for every prompt; withdrawn by its authors",
        _APACHE,
        10_159_260,
    ),
    "rap-sam": Unavailable(
        "RAP-SAM",
        "real-time panoptic, interactive and video segmentation (Xu et al., 2024)",
        "100 object queries in place of SAM's decoder, on mmdet 3",
        "MIT",
    ),
    "sam-lightening": Unavailable(
        "SAM-Lightening",
        "dilated flash attention (Song et al., 2024)",
        "weights are not published; attention for CUDA only",
    ),
    "rwkv-sam": Unavailable(
        "RWKV-SAM",
        "linear-attention backbone (Yuan et al., 2024)",
        "weights are not published",
        "NTU S-Lab 1.0, non-commercial",
    ),
    "ptq4sam": Unavailable(
        "PTQ4SAM",
        "SAM with simulated 4- and 6-bit numbers (Lv et al., 2024)",
        "no weights: it calibrates SAM's on mmdet 2",
    ),
    "esam": Unavailable(
        "ESAM",
        "EfficientFormerV2 encoder for medical images",
        "neither code nor weights were found",
    ),
    "fastsam3d": Unavailable(
        "FastSAM3D",
        "volumes of 128 x 128 x 128 voxels (Shen et al., 2024)",
        "segments volumes, not photos",
        _APACHE,
    ),
}
