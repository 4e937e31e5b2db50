"""VariantRecord, and texts that many records share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from everything.config import Compute, Decoding, Filters
from everything.errors import ConfigError
from everything.variants.checkpoints.weights import Weights

PADDED = "longest side to 1024 px, padded"
STRETCHED = "stretched to 1024 x 1024 px"
PADDED_512 = "longest side to 512 px, padded; prompts at 1024 px"
APACHE = "Apache-2.0"
GITHUB = "https://github.com"
HUGGING_FACE = "https://huggingface.co"


def check_supported(name: str, compute: Compute, decoding: Decoding, batches: bool = False) -> None:
    """Raise ConfigError for settings that only variants with SAM's own modules support.

    Args:
        name: The variant, for the message.
        compute: Must not ask for batches of images, where there are none.
        decoding: Must not ask for the plain decoder.
        batches: Whether the variant takes batches of images.
    """
    if decoding.decoder == "plain":
        raise ConfigError(f"decoding.decoder = 'plain': {name} has no plain decoder: leave it out")
    if compute.images_per_batch > 1 and not batches:
        raise ConfigError(
            f"compute.images_per_batch = {compute.images_per_batch}: {name} encodes one image at a "
            f"time: leave it out"
        )


@dataclass(frozen=True)
class VariantRecord:
    """Describes a variant without loading its weights.

    Args:
        module: Full name of the module whose `build` makes the model, with `options`.
        weights: Where its checkpoint comes from.
        preset: Defaults that this variant changes in groups of settings.
        samplers: Defaults that this variant changes in samplers' settings, by the sampler's name.
        decoding: Its own settings of the group `decoding`, which most variants do not have.
        base_variant: If this variant's checkpoint has no tensors whose names start with one of
            `base_prefixes`, they are taken from this variant's checkpoint
            (everything/variants/checkpoints/shared_weights.py).
        images_per_worker: Images from which one more worker process is worth its start, on a CPU.
        on_cpu: Whether the CPU does most of the work, also beside a GPU.
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
    samplers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    decoding: tuple[str, ...] = ()
    base_variant: str = ""
    base_prefixes: tuple[str, ...] = ()
    images_per_worker: int = 2
    on_cpu: bool = False

    def network_module(self) -> ModuleType:
        """Import and return the module whose `build` makes the model."""
        return import_module(self.module)

    @property
    def status(self) -> str:
        """How to get the weights, in a few words."""
        return self.weights.status

    def row(self, name: str) -> dict[str, Any]:
        """Return its row in `everything variants`."""
        return {
            "name": name,
            "family": self.family,
            "summary": self.summary,
            "parameters": self.parameters,
            "input": self.input_rule,
            "licence": self.licence,
            "weights": self.weights.source,
            "status": self.status,
            "pred_iou_thresh": self.threshold("pred_iou_thresh"),
            "stability_score_thresh": self.threshold("stability_score_thresh"),
            "mask_threshold": self.threshold("mask_threshold"),
        }

    def threshold(self, name: str) -> float:
        """Return the default of a setting of the group `filters` for this variant."""
        default: float = Filters.model_fields[name].default
        return float(self.preset.get("filters", {}).get(name, default))


@dataclass(frozen=True)
class Unavailable:
    """A model of the survey that is not offered as a variant: why, and what to use instead."""

    family: str
    summary: str
    reason: str
    licence: str = "none stated"
    parameters: int | None = None
    instead: str = ""

    @property
    def status(self) -> str:
        """Why it is missing, or what to use instead, in a few words."""
        return f"{self.reason}: {self.instead}" if self.instead else f"not available: {self.reason}"

    def row(self, name: str) -> dict[str, Any]:
        """Return its row in `everything variants`."""
        return {
            "name": name,
            "family": self.family,
            "summary": self.summary,
            "parameters": self.parameters,
            "input": "",
            "licence": self.licence,
            "weights": "",
            "status": self.status,
            "pred_iou_thresh": None,
            "stability_score_thresh": None,
            "mask_threshold": None,
        }
