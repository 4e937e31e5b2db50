"""Everything modes of other programs, run as their users run them, with the same model and grid.

Each gets the variant's weights and the recipe's settings under its own names. Hooks on the modules
time encoder and decoder calls; the rest of a program's time is "other". `differences` states what
a program does differently with any settings, and is printed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from everything.benchmark.nano_sam import NanoSam
from everything.benchmark.transformers_sam import convert
from everything.benchmark.types import Run
from everything.config import Recipe
from everything.core import rle
from everything.core.rle import Rle
from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError
from everything.pipeline.pipeline import Pipeline
from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import State, read_state
from everything.variants.networks.attention import unfuse
from everything.variants.networks.nano import NanoModel
from everything.variants.networks.sam import SamModel


@dataclass(frozen=True)
class Peer:
    """Another program.

    Args:
        package: Its distribution.
        prepare: Returns its everything mode for a pipeline, or raises ConfigError.
        differences: What it does differently with any settings.
    """

    package: str
    prepare: Callable[[Pipeline], Run]
    differences: str


def segment_anything(pipeline: Pipeline) -> Run:
    """Return SamAutomaticMaskGenerator with the pipeline's own modules; masks as COCO codes."""
    from segment_anything import SamAutomaticMaskGenerator

    nano, recipe = pipeline.model, pipeline.recipe
    sam = NanoSam(nano.network) if isinstance(nano, NanoModel) else _sam(pipeline)
    filters = recipe.filters.model_dump()
    sam.mask_threshold = filters.pop("mask_threshold", 0.0)  # SAM's is the model's
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=_points_per_side(recipe),
        points_per_batch=recipe.decoding.points_per_batch,
        **filters,
        **recipe.crops.model_dump(),
        **recipe.tidy.model_dump(),
        **_box_nms(recipe),
        output_mode="coco_rle",
    )

    def run(pixels: NDArray[np.uint8], timer: StageTimer) -> list[Rle]:
        with watched(sam.image_encoder, sam.mask_decoder, timer):
            records = generator.generate(pixels)
        return _counted([record["segmentation"] for record in records], timer)

    return run


def transformers(pipeline: Pipeline) -> Run:
    """Return transformers' mask-generation pipeline with SamModel and the pipeline's weights.

    A plain ViT runs as transformers' own encoder, any other encoder as it is.
    """
    from transformers import pipeline as make

    settings = _transformers_settings(pipeline.recipe)
    model, processor = convert(_sam(pipeline))
    generator = make("mask-generation", model=model, image_processor=processor)

    def run(pixels: NDArray[np.uint8], timer: StageTimer) -> list[Rle]:
        with watched(model.vision_encoder, model.mask_decoder, timer):
            found = generator(Image.fromarray(pixels), **settings)
        return _counted([_code(np.asarray(mask)) for mask in found["masks"]], timer)

    return run


def ultralytics(pipeline: Pipeline) -> Run:
    """Return ultralytics' SAM predictor without prompts, with the pipeline's weights."""
    from ultralytics.models.sam import Predictor, build

    recipe = pipeline.recipe
    settings = _ultralytics_settings(recipe)
    _sam(pipeline)
    builders: dict[str, Callable[[], Any]] = {
        "sam-vit-b": build.build_sam_vit_b,
        "sam-vit-l": build.build_sam_vit_l,
        "sam-vit-h": build.build_sam_vit_h,
        "mobilesam": build.build_mobile_sam,
    }
    if recipe.variant not in builders:
        raise ConfigError(f"ultralytics has no {recipe.variant}: drop one of the two")
    model = builders[recipe.variant]()
    model.load_state_dict(_state(recipe), assign=True)
    model.requires_grad_(False)
    model.mask_threshold = recipe.filters.mask_threshold
    overrides = {"imgsz": 1024, "verbose": False, "save": False, "conf": 0.0}
    predictor: Any = Predictor(overrides=overrides | {"iou": _box_nms(recipe)["box_nms_thresh"]})
    predictor.setup_model(model, verbose=False)

    def run(pixels: NDArray[np.uint8], timer: StageTimer) -> list[Rle]:
        with watched(model.image_encoder, model.mask_decoder, timer):
            found = predictor(np.ascontiguousarray(pixels[..., ::-1]), **settings)[0]
        masks = [] if found.masks is None else found.masks.data.cpu().numpy()
        return _counted([_code(mask) for mask in masks], timer)

    return run


PEERS = {
    "segment-anything": Peer(
        "segment-anything", segment_anything, "the reference: same masks, returned as COCO codes"
    ),
    "transformers": Peer(
        "transformers",
        transformers,
        "resizes images with its own image processor, LayerNorm eps 1e-6 in the decoder",
    ),
    "ultralytics": Peer(
        "ultralytics",
        ultralytics,
        "cuts crops from the resized image; filters and NMS work at the network's size",
    ),
}


@contextmanager
def watched(encoder: nn.Module, decoder: nn.Module, timer: StageTimer) -> Iterator[None]:
    """Time the calls of both modules as the stages encode and decode meanwhile."""
    with ExitStack() as stack:
        for module, stage in ((encoder, "encode"), (decoder, "decode")):
            for hook in _hooks(module, stage, timer):
                stack.callback(hook.remove)
        yield


def _hooks(module: nn.Module, stage: str, timer: StageTimer) -> Iterator[Any]:
    running = ExitStack()

    def enter(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        running.enter_context(timer.stage(stage))
        if stage == "decode":
            tokens: Tensor = kwargs["sparse_prompt_embeddings"]
            prompts = tokens.shape[:-2].numel()
            timer.counts["decoder_calls"] += 1
            timer.counts["prompts"] += prompts
            timer.counts["candidates"] += 3 * prompts

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.close()

    yield module.register_forward_pre_hook(enter, with_kwargs=True)
    yield module.register_forward_hook(leave, always_call=True)


def _sam(pipeline: Pipeline) -> Any:
    """Return the network if other programs call it correctly, else raise ConfigError."""
    model = pipeline.model
    # A subclass preprocesses images or scores masks differently, which no other program does.
    if type(model) is not SamModel:
        raise ConfigError(f"{pipeline.recipe.variant} is not SAM with another encoder")
    sam = model.network
    if sam.image_encoder.img_size != sam.prompt_encoder.input_image_size[0]:
        raise ConfigError(f"{pipeline.recipe.variant} has another size for images than for prompts")
    return _as_published(sam)


def _as_published(sam: Any) -> Any:
    """Return the same weights, shared, in segment_anything's own float32 encoder."""
    shared = {id(tensor): tensor for tensor in (*sam.parameters(), *sam.buffers())}
    sam = copy.deepcopy(sam, shared)
    vars(sam.image_encoder).pop("forward", None)  # what `configure_encoder` has put there
    if isinstance(sam.image_encoder, ImageEncoderViT):
        unfuse(sam.image_encoder)
    return sam


def _points_per_side(recipe: Recipe) -> int:
    if not recipe.sampler["name"].startswith("grid") or recipe.sampler["point_grids"]:
        raise ConfigError(f"sampler {recipe.sampler['name']}: other programs have only the grid")
    return int(recipe.sampler["points_per_side"])


def _box_nms(recipe: Recipe) -> dict[str, float]:
    if recipe.nms.kind != "box":
        raise ConfigError(f"nms.kind {recipe.nms.kind}: other programs have only box NMS")
    thresholds: dict[str, float] = recipe.nms.model_dump(exclude={"kind"})
    return thresholds


def _transformers_settings(recipe: Recipe) -> dict[str, Any]:
    if recipe.tidy.min_mask_region_area:
        raise ConfigError("min_mask_region_area: transformers has no such clean-up")
    thresholds = _box_nms(recipe)
    if recipe.crops.crop_n_layers and thresholds["box_nms_thresh"] != thresholds["crop_nms_thresh"]:
        raise ConfigError("box_nms_thresh: transformers has only crop_nms_thresh")
    return {
        "points_per_crop": _points_per_side(recipe),
        "points_per_batch": recipe.decoding.points_per_batch,
        "crops_n_layers": recipe.crops.crop_n_layers,
        "crop_overlap_ratio": recipe.crops.crop_overlap_ratio,
        "crop_n_points_downscale_factor": recipe.crops.crop_n_points_downscale_factor,
        "crops_nms_thresh": thresholds["box_nms_thresh"],
        **recipe.filters.model_dump(),
    }


def _ultralytics_settings(recipe: Recipe) -> dict[str, Any]:
    return {
        "points_stride": _points_per_side(recipe),
        "points_batch_size": recipe.decoding.points_per_batch,
        "crop_n_layers": recipe.crops.crop_n_layers,
        "crop_overlap_ratio": recipe.crops.crop_overlap_ratio,
        "crop_downscale_factor": recipe.crops.crop_n_points_downscale_factor,
        "crop_nms_thresh": recipe.nms.crop_nms_thresh,
        "conf_thres": recipe.filters.pred_iou_thresh,
        "stability_score_thresh": recipe.filters.stability_score_thresh,
        "stability_score_offset": recipe.filters.stability_score_offset,
        "min_mask_region_area": recipe.tidy.min_mask_region_area,
    }


def _state(recipe: Recipe) -> State:
    """Return the tensors under their official names."""
    if recipe.checkpoint:
        return read_state(Path(recipe.checkpoint))
    return read_state(VARIANTS[recipe.variant].weights.path())


def _code(mask: NDArray[Any]) -> Rle:
    return rle.encode(mask.astype(np.bool_), (0, 0), (mask.shape[0], mask.shape[1]))


def _counted(masks: list[Rle], timer: StageTimer) -> list[Rle]:
    timer.counts["masks"] += len(masks)
    return masks
