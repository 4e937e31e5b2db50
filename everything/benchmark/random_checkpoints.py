"""Checkpoints of stand-in weights: a file, or a folder in transformers' layout for SAM 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn

from everything.benchmark.random_weight_heads import Model
from everything.errors import ConfigError
from everything.variants import VARIANTS, VariantRecord
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.model_folder import SINGLE
from everything.variants.checkpoints.reader import State
from everything.variants.checkpoints.weights import PACKAGED
from everything.variants.networks.transformers_model import TransformersModel
from everything.variants.records.hub import NAMED

SETTINGS: dict[str, dict[str, Any]] = {"sam3": {}}
"""Of folders, by variant: what differs from the defaults of the network's class in transformers."""


class Checkpoint(Protocol):
    """How a variant's weights are saved."""

    @property
    def plan(self) -> Blueprint[nn.Module]:
        """The network without values, and the names of its tensors."""

    def build(self, state: State) -> Model:
        """Return the model with these weights; raises ConfigError for other decoders."""

    def rebuilt(self, model: Model) -> Model:
        """Return the model anew after its weights changed, as decoders fold weights."""

    def save(self, state: State) -> Path:
        """Write the weights; return what `--checkpoint` takes."""


def needs_weights(variant: str) -> bool:
    """Return whether a known variant's trained weights are not bundled."""
    record = _record(variant)
    return record is not None and not record.weights.source.startswith(PACKAGED)


def checkpoint_of(variant: str, path: Path) -> Checkpoint:
    """Return how a variant's weights are saved.

    Args:
        variant: Its name.
        path: Where to, without a suffix.

    Raises:
        ConfigError: The network's shapes are unknown.
    """
    record = _record(variant)
    if variant in SETTINGS and record is not None:
        return _folder(record, SETTINGS[variant], path)
    module: Any = record.network_module() if record is not None else None
    if record is None or not hasattr(module, "blueprint"):
        raise ConfigError(f"{variant}: random weights need the network's shapes: leave it out")
    return _File(variant, record, module.blueprint(**record.options), path)


def _record(variant: str) -> VariantRecord | None:
    return NAMED.get(variant) or VARIANTS.get(variant)


@dataclass(frozen=True)
class _File:
    variant: str
    record: VariantRecord
    plan: Blueprint[nn.Module]
    path: Path

    def build(self, state: State) -> Model:
        module = self.record.network_module()
        model = module.build(dict(state), f"random {self.variant}", **self.record.options)
        if not isinstance(model, Model):
            raise ConfigError(
                f"{self.variant}: random weights fit only decoders of SAM, HQ-SAM and SAM 2: leave "
                f"it out"
            )
        return model

    def rebuilt(self, model: Model) -> Model:
        assert not isinstance(model, TransformersModel)
        return type(model)(model.network)

    def save(self, state: State) -> Path:
        path = self.path.with_name(f"{self.path.name}.safetensors")
        save_file(state, path)
        return path


@dataclass(frozen=True)
class _Folder:
    record: VariantRecord
    plan: Blueprint[nn.Module]
    path: Path

    def build(self, state: State) -> Model:
        module = self.record.network_module()
        model: Model = module.build(dict(state), str(self.path), **self.record.options)
        return model

    def rebuilt(self, model: Model) -> Model:
        assert isinstance(model, TransformersModel)
        return TransformersModel(model.network, model.processor)

    def save(self, state: State) -> Path:
        save_file(state, self.path / SINGLE, metadata={"format": "pt"})
        return self.path


def _folder(record: VariantRecord, settings: Mapping[str, Any], path: Path) -> _Folder:
    """Return SAM 3's tracker; its settings and its processor's are written."""
    try:
        from transformers import Sam3ImageProcessor, Sam3TrackerConfig, Sam3TrackerModel
    except ImportError as error:
        raise ConfigError(
            "SAM 3 needs the package transformers: pip install transformers"
        ) from error
    config: Any = Sam3TrackerConfig(**settings)
    side = config.prompt_encoder_config.image_size
    config.save_pretrained(path)
    Sam3ImageProcessor(size={"height": side, "width": side}).save_pretrained(path)
    with torch.device("meta"):
        return _Folder(record, Blueprint(Sam3TrackerModel(config)), path)
