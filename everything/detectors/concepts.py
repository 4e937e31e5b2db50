"""SAM 3's detector: all instances of what short texts name (transformers' `Sam3Model`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from everything.config import Compute
from everything.core.device import device_of, sent
from everything.core.file_names import printable
from everything.core.geometry import Frame, Size
from everything.core.prompts import Prompts
from everything.errors import ConfigError, WeightsError
from everything.masks.masks import Decoded
from everything.variants.checkpoints.hub import hub_weights
from everything.variants.checkpoints.model_folder import CONFIG, TOKENIZER, config_of
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.transformers_folder import (
    building,
    check_loaded,
    image_processor,
)
from everything.variants.records.hub import PREFIX, SAM3_COMMIT

OFFICIAL = f"{PREFIX}facebook/sam3@{SAM3_COMMIT}"
KINDS = {"sam3": "Sam3Model", "sam3_video": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel"}
TOKENS = 32  # of a text, as transformers' processor pads it
_PINNED = re.compile(r".+@[0-9a-f]{40}")
_NEARLY = 1e-6  # probabilities of 0 and 1 have no finite logit


@dataclass(frozen=True)
class Instances:
    """N instances of one concept in one view, in the order of the network's queries.

    Attributes:
        boxes: float32 (N, 4) xyxy, view px, clipped to the view.
        scores: float32 (N,), probability of the instance times that of the concept in the view.
        probabilities: float32 (N, h, w) on the network's device, of each cell of the view.
        view: (H, W) px.
    """

    boxes: Tensor
    scores: Tensor
    probabilities: Tensor
    view: Size

    def __len__(self) -> int:
        return len(self.scores)

    def decoded(self, rows: slice) -> Decoded:
        """Return the masks of a slice of rows; their canvas is the view.

        Probabilities are enlarged, as transformers does, not logits.
        """
        height, width = self.view
        enlarged = F.interpolate(
            self.probabilities[None, rows], self.view, mode="bilinear", align_corners=False
        )[0]
        scores = self.scores[rows]
        return Decoded(
            torch.logit(enlarged, _NEARLY),
            scores,
            torch.zeros(len(scores), dtype=torch.int64),
            Prompts.boxes(self.boxes[rows]),
            Frame(self.view, self.view, (0, 0, width, height)),
        )


@dataclass
class ConceptNetwork:
    """SAM 3's detector with its processor.

    Attributes:
        network: transformers' model.
        processor: transformers' `Sam3Processor`.
    """

    network: Any
    processor: Any
    _texts: dict[tuple[str, torch.device], tuple[Any, Tensor]] = field(default_factory=dict)

    def tokens(self, concept: str) -> dict[str, Tensor]:
        """Return a text as the network takes it; raises ConfigError if it is too long."""
        found: dict[str, Tensor] = dict(self.processor(text=[concept], return_tensors="pt"))
        count = found["input_ids"].shape[1]
        if count > TOKENS:
            raise ConfigError(
                f"sampler.concepts: {printable(concept)!r} has {count} tokens, the model takes "
                f"{TOKENS}: use fewer words"
            )
        return found

    def find(
        self, pixels: NDArray[np.uint8], concepts: Sequence[str], conf: float, device: str
    ) -> Iterator[tuple[str, Instances]]:
        """Yield each concept with its instances in a view, which is encoded once.

        Args:
            pixels: The view, uint8 (h, w, 3) RGB.
            concepts: Texts.
            conf: Score that an instance must exceed.
            device: Where the network computes, as the settings name it.
        """
        place = device_of(Compute(device=device))
        self.network.to(place)
        given = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        images = self.processor.image_processor(
            images=given, input_data_format="channels_first", return_tensors="pt"
        )
        features = self.network.get_vision_features(sent(images["pixel_values"].float(), place))
        for concept in concepts:
            text, attention = self._text(concept, place)
            output = self.network(
                vision_embeds=features, text_embeds=text, attention_mask=attention
            )
            yield concept, _instances(output, (pixels.shape[0], pixels.shape[1]), conf)

    def _text(self, concept: str, device: torch.device) -> tuple[Any, Tensor]:
        """A text's features and attention mask, computed once."""
        key = (concept, device)
        if key not in self._texts:
            tokens = {name: sent(t, device) for name, t in self.tokens(concept).items()}
            features = self.network.get_text_features(**tokens, return_dict=True)
            self._texts[key] = features, tokens["attention_mask"]
        return self._texts[key]


def _instances(output: Any, view: Size, conf: float) -> Instances:
    """Those of the network's queries whose score exceeds `conf`."""
    scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
    kept = ~(scores <= conf)  # NaN stays, to be refused
    height, width = view
    size = torch.tensor([width, height, width, height])
    boxes = (output.pred_boxes[0, kept].float().cpu() * size).clamp(min=0).minimum(size)
    probabilities = output.pred_masks[0, kept].float().sigmoid()
    return Instances(boxes, scores[kept].float().cpu(), probabilities, view)


def checked_model(model: str) -> str:
    """Return the name of a model as settings hold it: "hf:ORG/NAME@COMMIT", or a folder's path.

    Raises:
        ValueError: A model of the Hub is named without a commit, so that results could change.
    """
    rest = model.removeprefix(PREFIX)
    if rest == model or rest.startswith(("/", "./", "../", "~/")):
        return str(Path(rest).expanduser())
    if not _PINNED.fullmatch(model):
        raise ValueError("write hf:ORG/NAME@COMMIT with all 40 digits, or a folder")
    return model


@cache
def load(model: str) -> ConceptNetwork:
    """Return the network of a folder, or of a model of the Hub, loaded once.

    Args:
        model: As `checked_model` returns it.

    Raises:
        WeightsError: It is not available, or not a SAM 3 that answers texts.
        ConfigError: transformers is not installed.
    """
    is_hub = model.startswith(PREFIX)
    folder = _downloaded(model.removeprefix(PREFIX)) if is_hub else Path(model)
    kind = config_of(folder).get("model_type")
    if kind not in KINDS:
        raise WeightsError(
            f"{printable(folder / CONFIG)}: model_type {kind} does not answer texts: give one of "
            f"{', '.join(KINDS)}"
        )
    if not any((folder / name).is_file() for name in TOKENIZER):
        raise WeightsError(
            f"{printable(folder)}: has no {TOKENIZER[0]}: copy the tokenizer's files beside its "
            f"{CONFIG}"
        )
    with building(folder):
        return _built(folder, KINDS[kind])


def _downloaded(name: str) -> Path:
    return replace(hub_weights(name), own_copy="--set sampler.model=FOLDER").path()


def _built(folder: Path, kind: str) -> ConceptNetwork:
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    network, left = getattr(transformers, kind).from_pretrained(
        None,
        config=AutoConfig.from_pretrained(folder, **local),
        state_dict=read_state(folder),
        dtype=torch.float32,
        output_loading_info=True,
    )
    check_loaded(left, folder)
    network.eval().requires_grad_(False)
    side = int(network.config.image_size)
    images = image_processor(folder, network.config, side)
    if (images.size["height"], images.size["width"]) != (side, side):
        raise ValueError(f"the processor makes images of {images.size}, the model takes {side} px")
    made: Any = transformers.Sam3Processor
    return ConceptNetwork(network, made(images, AutoTokenizer.from_pretrained(folder, **local)))
