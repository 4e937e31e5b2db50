"""Variants with a light image encoder and SAM's prompt encoder and mask decoder."""

from __future__ import annotations

from everything.variants.checkpoints.weights import Weights
from everything.variants.spec import (
    APACHE,
    GITHUB,
    HUGGING_FACE,
    PADDED,
    PADDED_512,
    VariantRecord,
)

_DRIVE = "https://drive.google.com/file/d"


def _edgesam(training: str, file: str, sha256: str) -> VariantRecord:
    return VariantRecord(
        module="everything.variants.networks.repvit",
        family="EdgeSAM",
        summary=f"RepViT-M1 with fused maps, {training} (Zhou et al., 2023); scored by stability",
        parameters=9_582_112,
        input_rule=PADDED,
        licence="NTU S-Lab 1.0, non-commercial",
        weights=Weights(
            f"{HUGGING_FACE}/spaces/chongzhou/EdgeSAM/resolve/main/weights/{file}", sha256
        ),
        options={"body": "repvit_m1"},
    )


def _mobilesamv2(encoder: str, parameters: int, input_rule: str = PADDED) -> VariantRecord:
    return VariantRecord(
        module="everything.variants.networks.mobilesamv2",
        family="MobileSAMv2",
        summary=f"{encoder}'s encoder, decoder fine-tuned with boxes (Zhang et al., 2023)",
        parameters=parameters,
        input_rule=input_rule,
        licence=APACHE,
        weights=Weights(
            f"{GITHUB}/ChaoningZhang/MobileSAM/raw/master/MobileSAMv2/PromptGuidedDecoder/"
            "Prompt_guided_Mask_Decoder.pt"
        ),
        options={"encoder": encoder},
        base_variant=encoder,
        base_prefixes=("image_encoder.",),
    )


LIGHT: dict[str, VariantRecord] = {
    "mobilesam": VariantRecord(
        module="everything.variants.networks.tinyvit",
        family="MobileSAM",
        summary="TinyViT-5M distilled from SAM-H (Zhang et al., 2023)",
        parameters=10_130_092,
        input_rule=PADDED,
        licence=APACHE,
        weights=Weights(
            f"{GITHUB}/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        ),
    ),
    "tinysam": VariantRecord(
        module="everything.variants.networks.tinyvit",
        family="TinySAM",
        summary="MobileSAM's network, distilled in full stages (Shu et al., 2023)",
        parameters=10_130_092,
        input_rule=PADDED,
        licence=APACHE,
        weights=Weights(f"{GITHUB}/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth"),
    ),
    "q-tinysam": VariantRecord(
        module="everything.variants.networks.q_tinysam",
        family="TinySAM",
        summary="TinySAM with an image encoder in 8-bit integers (Shu et al., 2023)",
        parameters=9_804_036,
        input_rule=PADDED,
        licence=APACHE,
        weights=Weights(
            f"{GITHUB}/xinghaochen/TinySAM",
            file="q_tinysam.safetensors",
            by_hand="made from TinySAM by `everything quantize IMAGES`; the authors' file is a "
            "pickled module, which would run code, and computes in floats",
        ),
    ),
    "repvit-sam": VariantRecord(
        module="everything.variants.networks.repvit",
        family="RepViT-SAM",
        summary="RepViT-M2.3 distilled from SAM-H (Wang et al., 2023)",
        parameters=27_223_480,
        input_rule=PADDED,
        licence=APACHE,
        weights=Weights(f"{GITHUB}/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt"),
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
    "nanosam": VariantRecord(
        module="everything.variants.networks.nanosam",
        family="NanoSAM",
        summary="ResNet-18 distilled from MobileSAM, with its decoder (NVIDIA, 2023)",
        parameters=19_895_664,
        input_rule="longest side to 1024 px (bicubic, rounded down), padded",
        licence=APACHE,
        weights=Weights(
            f"{_DRIVE}/14-SsvoaTl-esC3JOzomHDnI9OGgdO2OR",
            file="nanosam_resnet18.pth",
            by_hand="only an ONNX file is published, whose parameters have no names; a checkpoint "
            "of nanosam.tools.train loads",
        ),
        base_variant="mobilesam",
        base_prefixes=("prompt_encoder.", "mask_decoder."),
    ),
    "lite-sam": VariantRecord(
        module="everything.variants.networks.lite_sam",
        family="Lite-SAM",
        summary="LiteViT as described in the paper (Fu et al., 2024); its AutoPPN is auto-ppn",
        parameters=5_216_240,
        input_rule="longest side to 512 px, padded",
        licence="none stated; of weights, that of the images they were trained on",
        weights=Weights(
            "https://arxiv.org/abs/2407.08965",
            file="lite_sam.safetensors",
            by_hand="neither code nor weights are published: `everything train lite-sam`",
        ),
    ),
    "mobilesamv2": _mobilesamv2("mobilesam", 10_130_092),
    "mobilesamv2-efficientvit-l2": _mobilesamv2("efficientvit-sam-l2", 61_328_592, PADDED_512),
    "mobilesamv2-vit-h": _mobilesamv2("sam-vit-h", 641_090_608),
}
