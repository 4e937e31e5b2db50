"""Models of the survey, and later ones, that are not offered as variants, and why."""

from __future__ import annotations

from everything.variants.spec import APACHE, Unavailable

UNAVAILABLE: dict[str, Unavailable] = {
    "samfast-h": Unavailable(
        "SAMfast",
        "SAM-H run fast: bfloat16, compiled, batched (PyTorch, 2023)",
        "a recipe for sam-vit-h, not another network",
        APACHE,
        641_090_608,
        "--config samfast-h",
    ),
    "fastsam-s": Unavailable(
        "FastSAM",
        "YOLOv8s-seg trained on 2 % of SA-1B (Zhao et al., 2023)",
        "a sampler, as it takes no prompts",
        "AGPL-3.0",
        11_790_483,
        "--sampler all-instance --set sampler.detector=fastsam-s",
    ),
    "fastsam-x": Unavailable(
        "FastSAM",
        "YOLOv8x-seg trained on 2 % of SA-1B (Zhao et al., 2023)",
        "a sampler, as it takes no prompts",
        "AGPL-3.0",
        72_234_149,
        "--sampler all-instance --set sampler.detector=fastsam-x",
    ),
    "squeezesam": Unavailable(
        "SqueezeSAM",
        "U-Net whose input holds the prompts (Varadarajan et al., 2023)",
        "the image is encoded anew for every prompt; withdrawn by its authors",
        APACHE,
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
        "segments volumes, not images",
        APACHE,
    ),
    "efficientsam3": Unavailable(
        "EfficientSAM3",
        "RepViT, TinyViT and EfficientViT distilled from SAM 3's encoder (Zeng et al., 2025)",
        "the names in its files could not be established",
        APACHE,
    ),
}
