"""Every setting, defined once: name (SAM's, where SAM has it), default, unit and limits.

A recipe holds them all. It is resolved from the defaults, the presets of the variant and the
sampler, a YAML file and the command line (everything/recipes/resolve.py), written beside the
results, and hashed, so that a folder never mixes results of two recipes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from everything.errors import without_secrets

RESULTS_FORMAT = "0.2.0"  # TIFFs and dark 16-bit images are read otherwise than before
IMPORT_FORMAT = "0.1.0"
"""The versions since which equal settings have given equal masks, labelled and imported ones;
raised only when masks change."""
IMPORTED = "imported"
"""The sampler's name in the recipe of imported annotations."""

NmsKind = Literal["box", "mask", "containment", "none"]
Level = Literal["all", "whole", "part", "subpart"]


class Settings(BaseModel):
    """Base of the groups of settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Decoding(Settings):
    """How the mask decoder runs."""

    points_per_batch: int = Field(
        64,
        ge=1,
        description="prompts per decoder batch; on a GPU, 64 means as many as device_memory "
        "allows, up to 1024",
    )
    decoder: Literal["shared-image", "plain"] = Field(
        "shared-image",
        description="shared-image: the image side computed once for all prompts, exact; plain: as "
        "segment_anything runs it",
    )
    hq_token_only: bool = Field(
        False,
        description="HQ-SAM: the mask of the high-quality token alone; False: with SAM's best mask "
        "added",
    )
    use_m2m: bool = Field(
        False,
        description="SAM 2: decode every mask once more with itself as a prompt; takes many times "
        "as long",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings at their defaults, so that older results can be resumed."""
        later = {"hq_token_only": False, "use_m2m": False}
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Compute(Settings):
    """Device and precision of the variant. The mask decoder always computes in float32."""

    device: str = Field("auto", description="cpu, cuda, cuda:1 or mps; auto: a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="precision of the image encoder; auto: what the variant was trained with",
    )
    compile: bool = Field(
        False,
        description="compile the image encoder with torch.compile, and on GPUs the mask decoder",
    )
    cuda_graphs: bool = Field(
        False,
        description="record the image encoder's kernels as a CUDA graph for each shape of input, "
        "and launch them as one; not measured yet",
    )
    images_per_batch: int = Field(1, ge=1, description="images and crops per image encoder batch")
    kernels: Literal["auto", "fused", "torch"] = Field(
        "auto",
        description="mask decoder. auto: fused kernels where they apply (CPU: C++, CUDA: Triton); "
        "fused: only those; torch: PyTorch operations",
    )
    device_memory: float = Field(
        2.0,
        gt=0,
        description="memory of a GPU that intermediate results of the mask decoder may take, GiB; "
        "halved by itself where memory runs out",
    )

    @property
    def device_bytes(self) -> int:
        """device_memory in bytes."""
        return int(self.device_memory * 2**30)

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings at their defaults, so that older results can be resumed."""
        later = {"kernels": "auto", "images_per_batch": 1, "device_memory": 2.0}
        later["cuda_graphs"] = False
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Filters(Settings):
    """Scores that a mask must have to be kept; 0 switches a filter off."""

    pred_iou_thresh: float = Field(
        0.88, ge=0, le=1, description="keep masks with a predicted IoU above this"
    )
    stability_score_thresh: float = Field(
        0.95, ge=0, le=1, description="keep masks with a stability score of at least this"
    )
    stability_score_offset: float = Field(
        1.0, ge=0, description="shift of the mask threshold for the stability score, logits"
    )
    mask_threshold: float = Field(
        0.0,
        allow_inf_nan=False,
        description="a pixel is in the mask if its logit is above this; higher: smaller masks",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings at their defaults, so that older results can be resumed."""
        later = {"mask_threshold": 0.0}
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Nms(Settings):
    """Non-maximum suppression: which masks count as duplicates."""

    kind: NmsKind = Field(
        "box",
        description="what is compared. box: IoU of boxes, as SAM does; mask: IoU of masks; "
        "containment: how much of a mask lies inside a better one; none: no NMS",
    )
    box_nms_thresh: float = Field(
        0.7,
        ge=0,
        le=1,
        description="overlap with a better mask of the same crop above which a mask is removed",
    )
    crop_nms_thresh: float = Field(0.7, ge=0, le=1, description="the same, across crops")


class Crops(Settings):
    """Crops that are segmented in addition to the whole image."""

    crop_n_layers: int = Field(0, ge=0, le=6, description="layers of crops; layer i has 2^i x 2^i")
    crop_overlap_ratio: float = Field(
        512 / 1500,
        ge=0,
        lt=1,
        description="overlap of crops in layer 1, as a fraction of the short side",
    )
    crop_n_points_downscale_factor: int = Field(
        1, ge=1, description="points_per_side is divided by this in each further layer"
    )


class Tidy(Settings):
    """Clean-up of small regions in the masks that were kept."""

    min_mask_region_area: int = Field(
        0, ge=0, description="remove holes and islands smaller than this, px"
    )


class Output(Settings):
    """What is written for each image, and in which form."""

    form: Literal["json", "parquet", "tar"] = Field(
        "json",
        description="json: one file per image; parquet, tar: shards of many images (Ray jobs)",
    )
    label_map: bool = Field(
        False, description="also write a label map without overlaps, 16-bit PNG"
    )
    label_map_full: bool = Field(
        False,
        description="in the label map, give pixels without a mask the number of the nearest mask",
    )
    parents: bool = Field(
        False,
        description="add parent_id to each annotation: the smallest mask that contains it, or null",
    )
    level: Level = Field("all", description="keep only whole objects, their parts, or subparts")

    @model_validator(mode="after")
    def _full_needs_a_map(self) -> Self:
        if self.label_map_full and not self.label_map:
            raise ValueError("label_map_full needs output.label_map: true")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings at their defaults, so that older results can be resumed."""
        later = {"label_map_full": False, "parents": False, "level": "all"}
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Tiles(Settings):
    """Tiles of images too large to be segmented at once; masks across seams are joined."""

    tile_side: int = Field(
        0,
        ge=0,
        description="segment images larger than this in tiles of this side, px; 0: no tiles",
    )
    tile_overlap: int = Field(256, ge=1, description="minimum overlap of neighbouring tiles, px")
    seam_iou: float = Field(
        0.5,
        gt=0,
        le=1,
        description="IoU in the shared pixels from which masks of two tiles are joined",
    )

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if 0 < self.tile_side <= self.tile_overlap:
            raise ValueError("tile_side must be larger than tile_overlap")
        return self


class Reading(Settings):
    """How images are read."""

    stretch: bool = Field(
        True,
        description="stretch images of more than 8 bits that use less than a quarter of their "
        "range, from the 0.5th to the 99.5th percentile",
    )
    max_pixels: int = Field(
        300_000_000,
        ge=1,
        description="largest image that is decoded whole, px; a larger one fails",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings at their defaults, so that older results can be resumed."""
        later = {"stretch": True, "max_pixels": 300_000_000}
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Recipe(Settings):
    """Everything that decides the masks of an image.

    Attributes:
        variant: A name that `list_variants` has.
        checkpoint: Path or URL of its weights; None for the official or bundled ones. It is written
            without the user, password and query of a URL.
        sampler: The sampler's name and all of its settings.
        version: The program's version.
        weights: SHA-256 of the weights, or "" where the variant has none.
        others: SHA-256 of the other files that were read, such as a sampler's own network.

    Example:
        >>> recipe = load("ucm", "grid-16").recipe
        >>> recipe.sampler["points_per_side"], recipe.nms.kind
        (16, 'mask')
    """

    variant: str
    checkpoint: str | None = Field(None, repr=False)
    sampler: dict[str, Any]
    compute: Compute = Compute()
    decoding: Decoding = Decoding()
    filters: Filters = Filters()
    nms: Nms = Nms()
    crops: Crops = Crops()
    tidy: Tidy = Tidy()
    output: Output = Output()
    tiles: Tiles = Tiles()
    reading: Reading = Reading()
    version: str
    weights: str
    others: dict[str, str] = {}

    @field_serializer("checkpoint")
    def _without_secrets(self, checkpoint: str | None) -> str | None:
        return None if checkpoint is None else without_secrets(checkpoint)

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings at their defaults, so that older results can be resumed."""
        tree: dict[str, Any] = write(self)
        if self.tiles == Tiles():
            tree.pop("tiles", None)
        if not tree.get("reading"):
            tree.pop("reading", None)
        return tree

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe as 64 hex digits.

        Paths of files, the device and its memory, the limit of pixels and the program's version do
        not count. RESULTS_FORMAT or IMPORT_FORMAT does, in the version's place.
        """
        left_out: Any = {
            "checkpoint": True,
            "compute": {"device", "device_memory", "cuda_graphs"},
            "reading": {"max_pixels"},
        }
        content = self.model_dump(mode="json", exclude=left_out)
        is_imported = content["sampler"].get("name") == IMPORTED
        content["version"] = IMPORT_FORMAT if is_imported else RESULTS_FORMAT
        for what in content["others"]:
            *groups, setting = what.split(".")
            if groups:  # a setting of the sampler that names a file, which counts by its content
                del functools.reduce(operator.getitem, groups, content)[setting]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
