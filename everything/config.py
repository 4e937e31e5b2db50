"""Every setting, once: its name (SAM's, where SAM has it), default, unit and limits.

A recipe is complete: resolved from defaults, the variant's and the sampler's presets, a YAML file
and the command line (everything/recipes/resolve.py), written beside the results and hashed.
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
    model_serializer,
    model_validator,
)

NmsKind = Literal["box", "mask", "containment", "none"]
Level = Literal["all", "whole", "part", "subpart"]


class Settings(BaseModel):
    """Settings that cannot change and have no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Decoding(Settings):
    """How prompts go through the decoder."""

    points_per_batch: int = Field(64, ge=1, description="prompts decoded together")
    decoder: Literal["shared-image", "plain"] = Field(
        "shared-image",
        description="SAM's decoder with the image side computed once, exact; or as SAM runs it",
    )


class Compute(Settings):
    """Where a variant runs, and in which precision its image encoder does; the decoder's algebra
    is always float32."""

    device: str = Field("auto", description="cpu, cuda, cuda:1, mps; auto: a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the image encoder; auto: as the variant was trained to run"
    )
    compile: bool = Field(
        False, description="the image encoder, and on GPUs the decoder, go through torch.compile"
    )
    images_per_batch: int = Field(
        1, ge=1, description="photos and crops that the image encoder sees at once"
    )
    kernels: Literal["auto", "fused", "torch"] = Field(
        "auto", description="the decoder's: compiled ones where they serve, only those, or torch's"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came later are left out at their defaults: older results stay valid."""
        later = {"kernels": "auto", "images_per_batch": 1}
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Filters(Settings):
    """What a mask must reach to be kept; 0 switches a threshold off."""

    pred_iou_thresh: float = Field(0.88, ge=0, le=1, description="predicted IoU, exceeded")
    stability_score_thresh: float = Field(0.95, ge=0, le=1, description="stability, reached")
    stability_score_offset: float = Field(
        1.0, ge=0, description="how far the mask's cut is moved for its stability, in logits"
    )


class Nms(Settings):
    """Which masks count as duplicates."""

    kind: NmsKind = Field(
        "box", description="compare boxes (SAM), masks, or how much lies inside a better mask"
    )
    box_nms_thresh: float = Field(0.7, ge=0, le=1, description="overlap exceeded within a crop")
    crop_nms_thresh: float = Field(0.7, ge=0, le=1, description="overlap exceeded across crops")


class Crops(Settings):
    """Crops that are segmented besides the whole image."""

    crop_n_layers: int = Field(0, ge=0, le=6, description="layer i has 2^i x 2^i crops")
    crop_overlap_ratio: float = Field(
        512 / 1500, ge=0, lt=1, description="overlap of layer 1, as a part of the short side"
    )
    crop_n_points_downscale_factor: int = Field(
        1, ge=1, description="points_per_side is divided by this at every layer"
    )


class Tidy(Settings):
    """Clean-up of the masks that were kept."""

    min_mask_region_area: int = Field(
        0, ge=0, description="holes and islands below this many px are removed"
    )


class Output(Settings):
    """What is written, and how."""

    form: Literal["json", "parquet", "tar"] = Field(
        "json",
        description="one JSON file a photo, or shards of many as rows of parquet or JSON in tar",
    )
    label_map: bool = Field(False, description="a map without overlaps, 16-bit PNG")
    label_map_full: bool = Field(
        False, description="pixels without a mask have the nearest one's number in that map"
    )
    parents: bool = Field(
        False, description="each annotation has parent_id: the smallest mask around it, or null"
    )
    level: Level = Field(
        "all", description="only masks that are wholes, parts of wholes, or deeper inside"
    )

    @model_validator(mode="after")
    def _full_needs_a_map(self) -> Self:
        if self.label_map_full and not self.label_map:
            raise ValueError("label_map_full is about the label map: set output.label_map, too")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came later are left out at their defaults: older results stay valid."""
        later = {"label_map_full": False, "parents": False, "level": "all"}
        return {key: value for key, value in write(self).items() if value != later.get(key, ...)}


class Tiles(Settings):
    """How photos too large for one look are cut up; masks across the seams are joined."""

    tile_side: int = Field(
        0, ge=0, description="px; larger photos are segmented in tiles of this side; 0: none are"
    )
    tile_overlap: int = Field(256, ge=1, description="px that neighbouring tiles share at least")
    seam_iou: float = Field(
        0.5, gt=0, le=1, description="overlap, where tiles share pixels, that makes masks one"
    )

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if 0 < self.tile_side <= self.tile_overlap:
            raise ValueError("tile_side must be larger than tile_overlap")
        return self


class Recipe(Settings):
    """All that decides the masks of an image.

    sampler: its name and all of its settings. version: of this program. weights: SHA-256 of the
    variant's weights, or "" where the variant has none. others: SHA-256 of what else was read: the
    checkpoint that the rest of the network is from, a sampler's own network.
    """

    variant: str
    checkpoint: str | None = None
    sampler: dict[str, Any]
    compute: Compute = Compute()
    decoding: Decoding = Decoding()
    filters: Filters = Filters()
    nms: Nms = Nms()
    crops: Crops = Crops()
    tidy: Tidy = Tidy()
    output: Output = Output()
    tiles: Tiles = Tiles()
    version: str
    weights: str
    others: dict[str, str] = {}

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came later are left out at their defaults: older results stay valid."""
        tree: dict[str, Any] = write(self)
        if self.tiles == Tiles():
            tree.pop("tiles", None)
        return tree

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the recipe but where files lie and on which device it runs, as
        64 hex digits."""
        content = self.model_dump(mode="json", exclude={"checkpoint": True, "compute": {"device"}})
        for what in content["others"]:
            *groups, setting = what.split(".")
            if groups:  # a setting of the sampler that names a file, which counts by its content
                del functools.reduce(operator.getitem, groups, content)[setting]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
