"""`hf:ORG/NAME` and `hf:FOLDER`, models that transformers knows for mask generation, and SAM 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from everything.errors import ConfigError
from everything.variants.checkpoints.hub import SITE, HubWeights, hub_weights
from everything.variants.checkpoints.model_folder import config_of
from everything.variants.checkpoints.weights import Weights
from everything.variants.spec import VariantRecord

PREFIX, FOLDER = "hf:", "hf"
# The thresholds of SAM 2's own generator, for all whose predicted IoU is a sigmoid as SAM 2's.
_LIKE_SAM2: Mapping[str, Mapping[str, Any]] = {"filters": {"pred_iou_thresh": 0.8}}
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sam2": _LIKE_SAM2,
    "sam2_video": _LIKE_SAM2,
    "edgetam": _LIKE_SAM2,
    "edgetam_video": _LIKE_SAM2,
    "sam3_tracker": _LIKE_SAM2,
    "sam3_video": _LIKE_SAM2,
}
MASK_GENERATION = frozenset({*PRESETS, "sam", "sam_hq"})  # the model_types that are taken
_RECORD = VariantRecord(
    module="everything.variants.networks.transformers_model",
    family="transformers",
    summary="any model that transformers has for mask generation, by its name on Hugging Face "
    "or as a local folder",
    parameters=0,
    input_rule="as its processor's settings say",
    licence="the model's own",
    weights=Weights("", by_hand="give it as --variant hf:ORG/NAME or hf:/FOLDER"),
)
_SAM3 = f"{SITE}/facebook/sam3"
SAM3_COMMIT = "3c879f39826c281e95690f02c7821c4de09afae7"
NAMED: Mapping[str, VariantRecord] = {
    "sam3": VariantRecord(
        module=_RECORD.module,
        family="SAM 3",
        summary="SAM 3's tracker (Meta, 2025), which answers points and boxes; stills",
        parameters=458_260_369,
        input_rule="stretched to 1008 x 1008 px",
        licence="SAM License (Meta)",
        weights=HubWeights(
            _SAM3,
            repo="facebook/sam3",
            revision=SAM3_COMMIT,
            terms=f"once its licence is accepted at {_SAM3}; or --checkpoint FOLDER",
            own_copy="--checkpoint FOLDER",
        ),
        options={"kinds": ("sam3_tracker", "sam3_tracker_video", "sam3_video")},
        # SAM 3 has no mask generator of its own; its scores are made as SAM 2's.
        preset=_LIKE_SAM2,
    )
}


def is_hub_name(variant: str) -> bool:
    """Return whether a variant's name is one of this kind."""
    return variant == FOLDER or variant in NAMED or variant.startswith(PREFIX)


def named(variant: str, checkpoint: str | None) -> tuple[str, str | None]:
    """Return the name and the checkpoint as recipes hold them.

    The name of a model on the Hub gets its commit, which is looked up, or read from the cache. A
    folder is the checkpoint of the variant "hf", so that its path does not count as a setting.

    Raises:
        ConfigError: The name is not of this kind, or a checkpoint is given besides.
        WeightsError: The model is not available.
    """
    if variant in NAMED:
        return variant, checkpoint
    if variant == FOLDER:
        if checkpoint is None:
            raise ConfigError("hf: write hf:ORG/NAME, or hf:/FOLDER for a local folder")
        return variant, checkpoint
    rest = variant.removeprefix(PREFIX)
    if checkpoint is not None:
        raise ConfigError(f"{variant}: has its own weights: drop --checkpoint")
    if rest.startswith(("/", "./", "../", "~/")):
        return FOLDER, str(Path(rest).expanduser())
    weights = hub_weights(rest)
    return f"{PREFIX}{weights.repo}@{weights.config().parent.name}", None


def hub_record(variant: str, checkpoint: str | None = None) -> VariantRecord:
    """Return the record of a model of the Hub or of a folder, with the thresholds it needs.

    Raises:
        ConfigError: The name is not of this kind.
        WeightsError: The model's config.json is not available.
    """
    if variant in NAMED:
        # Its own folder also has the detector that answers texts.
        own = {"concepts": {"model": checkpoint}} if checkpoint is not None else {}
        return replace(NAMED[variant], samplers=own)
    if variant == FOLDER:
        if checkpoint is None:
            return _RECORD
        return replace(_RECORD, preset=_preset(Path(checkpoint)))
    weights = hub_weights(variant.removeprefix(PREFIX))
    licence = f"the model's own: {weights.source}"
    preset = _preset(weights.config().parent)
    return replace(_RECORD, weights=weights, licence=licence, preset=preset)


def _preset(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    return PRESETS.get(str(config_of(folder).get("model_type")), {})


def rows() -> list[dict[str, Any]]:
    """Return the rows of `everything variants`: SAM 3, and one that stands for all others."""
    every = _RECORD.row("hf:ORG/NAME") | {
        "parameters": None,
        "status": "from Hugging Face at first use, or --variant hf:/FOLDER",
    }
    return [*(record.row(name) for name, record in NAMED.items()), every]
