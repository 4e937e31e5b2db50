"""Models that transformers has for mask generation: SAM, SAM-HQ, SAM 2, EdgeTAM, SAM 3's tracker.

The network and the preprocessing are transformers' own, built from a folder's settings. Mask
decoders with SAM 2's structure run as the shared-image decoder; all others as transformers runs
them, with a copy of the image's tokens for each prompt, which is slower. Object scores are not
looked at, as in SAM 2's own mask generator.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU, device_of, sent
from everything.core.file_names import printable
from everything.core.geometry import Frame, Size, View, padded_frame, stretched_frame
from everything.core.prompts import BOTTOM_RIGHT, PADDING, TOP_LEFT, Prompts
from everything.core.protocols import Candidates
from everything.decoding import Limits, PlainCandidates, PreparedImage, SharedSam2Decoder, UnlikeSAM
from everything.decoding.reference import numbered
from everything.errors import ConfigError, WeightsError
from everything.variants.checkpoints.key_mapping import UnfitWeights
from everything.variants.checkpoints.model_folder import CONFIG, config_of
from everything.variants.checkpoints.reader import State
from everything.variants.networks.encoder_settings import configure_encoder
from everything.variants.networks.sam2 import boxes_first
from everything.variants.networks.transformers_folder import (
    building,
    check_loaded,
    image_processor,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlainTransformersImage:
    """An image for the network's own forward pass.

    Attributes:
        network: transformers' model.
        inputs: What its `forward` needs of the image.
        embedding: The image encoder's, (1, C, h, w) over the canvas.
    """

    network: Any
    inputs: dict[str, Any]
    embedding: Tensor

    @torch.no_grad()
    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> PlainCandidates:
        """Return the candidates of P prompts: see `PreparedImage`.

        Prompts of one kind (as many points, with or without a box) are decoded together, so that
        none needs padding, which the network would take for a prompt.
        """
        if masks is not None:
            raise NotImplementedError("mask prompts are not used by any sampler")
        corner = (labels == TOP_LEFT) | (labels == BOTTOM_RIGHT)
        clicks = ~corner & (labels != PADDING)
        kinds = clicks.sum(1) * 2 + corner.any(1)
        order, answers = [], []
        for kind in sorted(set(kinds.tolist())):
            rows = (kinds == kind).nonzero().flatten()
            some, its = points[rows], labels[rows]
            asked: dict[str, Tensor] = {}
            if kind % 2:
                asked["input_boxes"] = some[corner[rows]].reshape(1, len(rows), 4)
            if kind // 2:
                asked["input_points"] = some[clicks[rows]].reshape(1, len(rows), kind // 2, 2)
                asked["input_labels"] = its[clicks[rows]].reshape(1, len(rows), kind // 2)
            order.append(rows)
            answers.append(self._ask(asked, multimask_output))
        back = torch.cat(order).argsort()
        logits, scores = (torch.cat(each) for each in zip(*answers, strict=True))
        if len(order) > 1:
            logits, scores = (x[sent(back, x.device)] for x in (logits, scores))
        return PlainCandidates(*numbered(scores), logits.flatten(0, 1))

    def _ask(self, asked: dict[str, Tensor], multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits (P, M, h, w) and scores (P, M)."""
        device = self.embedding.device
        asked = {name: sent(value, device) for name, value in asked.items()}
        output = self.network(**self.inputs, **asked, multimask_output=multimask)
        return output.pred_masks[0].float(), output.iou_scores[0].float()


class TransformersModel:
    """A network of transformers' mapping for mask generation as a `Model`.

    Args:
        network: With its weights; it is moved to the device and frozen.
        processor: Its image processor: size, mean and deviation of what the network is given.
        compute: Device, the image encoder's precision, and kernels.
        decoding: With decoder "plain" the network's own code decodes.

    Raises:
        ConfigError: The device is not available, or the kernels do not serve this network.
        ValueError: The processor makes images of another size than the network's.
    """

    def __init__(
        self,
        network: Any,
        processor: Any,
        compute: Compute = ON_CPU,
        decoding: Decoding = DEFAULT_DECODING,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.network.to(device_of(compute))
        self.processor = processor
        self.side = _side(network.prompt_encoder.input_image_size)
        self.pads = bool(processor.size.get("longest_edge"))
        seen = _sides(processor.pad_size if self.pads else processor.size)
        if seen != {self.side} or (self.pads and processor.size["longest_edge"] != self.side):
            raise ValueError(
                f"the processor makes images of {seen} px, the model takes {self.side}"
            )
        self.decoder = None if decoding.decoder == "plain" else _shared(network, compute, decoding)
        if self.decoder is None and compute.kernels == "fused":
            raise ConfigError(
                f"compute.kernels = 'fused': not for {type(network).__name__} with this decoder: "
                f"leave it out"
            )
        configure_encoder(network.vision_encoder, compute)

    @property
    def in_bulk(self) -> bool:
        """Whether prompts are best given all at a time: see everything/core/protocols.py."""
        return self.decoder is not None and self.decoder.in_bulk

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the canvas, padded or stretched."""
        return padded_frame(view, self.side) if self.pads else stretched_frame(view, self.side)

    def encode(self, view: View) -> PreparedImage:
        """Return the decoder's image side of a view."""
        return self.encode_batch([view])[0]

    def encode_batch(self, views: Sequence[View]) -> list[PreparedImage]:
        """Return the decoder's image side of each view, with one run of the image encoder."""
        pixels = torch.cat([self.pixels(view) for view in views])
        found: Any = self.network.get_image_embeddings(pixels)
        if torch.is_tensor(found):  # SAM
            return [self._plain(embedding) for embedding in torch.split(found, 1)]
        if isinstance(found, tuple):  # SAM-HQ: with maps of its encoder's blocks
            embeddings, inner = found
            each = zip(embeddings.split(1), *(maps.split(1) for maps in inner), strict=True)
            return [self._plain(one, intermediate_embeddings=list(maps)) for one, *maps in each]
        return [self._of_scales(*maps) for maps in zip(*(m.split(1) for m in found), strict=True)]

    def features(self, embedding: PreparedImage) -> Tensor:
        """Return the image encoder's embedding, (1, C, h, w) over the canvas."""
        return embedding.embedding

    def propose(
        self, embedding: PreparedImage, prompts: Prompts, multimask_output: bool
    ) -> Candidates:
        """Return the candidate masks of prompts (P rows, canvas px)."""
        points, labels = boxes_first(prompts.points, prompts.labels)
        return embedding.propose(points.float(), labels, multimask_output)

    def pixels(self, view: View) -> Tensor:
        """Return a view as the encoder takes it, float32 (1, 3, side, side)."""
        given = torch.from_numpy(_thick_enough(view.pixels, self.side)).permute(2, 0, 1)
        device = next(self.network.parameters()).device
        found: Tensor = self.processor(
            images=given, input_data_format="channels_first", return_tensors="pt"
        )["pixel_values"]
        return sent(found.float(), device)

    def _plain(self, embedding: Tensor, **more: Any) -> PreparedImage:
        inputs = {"image_embeddings": embedding, **more}
        return PlainTransformersImage(self.network, inputs, embedding)

    def _of_scales(self, *maps: Tensor) -> PreparedImage:
        *fine, embedding = maps
        if self.decoder is not None and len(fine) == 2:
            return self.decoder.prepare(embedding, (fine[0], fine[1]))
        return PlainTransformersImage(self.network, {"image_embeddings": list(maps)}, embedding)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    kinds: tuple[str, ...] = (),
) -> TransformersModel:
    """Build the model of a folder, with its weights, on its device.

    Args:
        state: Tensors by name, of the folder's safetensors.
        path: The folder, for its settings.
        compute: Device and precision.
        decoding: Which decoder to use.
        kinds: The model_types that are taken; all for mask generation if none is named.

    Raises:
        WeightsError: The folder's settings are not of a model for mask generation, or the weights
            do not fit them.
        ConfigError: If the device or the kernels are not available, or transformers is not
            installed.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UnfitWeights(path, f"a file, where a folder with {CONFIG} and safetensors is needed")
    config = config_of(folder)
    if kinds and config.get("model_type") not in kinds:
        raise WeightsError(
            f"{printable(folder / CONFIG)}: model_type {config.get('model_type')} is not of this "
            f"variant ({', '.join(kinds)}): use --variant hf:/FOLDER"
        )
    with building(folder):
        network, left = _network(folder, state)
        side = _side(network.prompt_encoder.input_image_size)
        processor = image_processor(folder, network.config, side)
        check_loaded(left, folder)
        return TransformersModel(network, processor, compute, decoding)


def _network(folder: Path, state: State) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    known_kinds: Any = modeling_auto.MODEL_FOR_MASK_GENERATION_MAPPING

    kind = config_of(folder).get("model_type")
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) not in known_kinds:
        known = ", ".join(sorted({each.model_type for each in known_kinds}))
        raise WeightsError(
            f"{printable(folder / CONFIG)}: model_type {kind} is not one for mask generation: "
            f"those are {known}"
        )
    network, left = known_kinds[type(config)].from_pretrained(
        None,
        config=config,
        state_dict=dict(state),
        dtype=torch.float32,
        output_loading_info=True,
    )
    return network, left


def _shared(network: Any, compute: Compute, decoding: Decoding) -> SharedSam2Decoder | None:
    try:
        return SharedSam2Decoder.of(
            network.prompt_encoder,
            network.mask_decoder,
            network.get_image_wide_positional_embeddings(),
            compute.kernels,
            compute.compile,
            Limits.of(compute, decoding),
        )
    except UnlikeSAM as error:
        _log.info(
            "%s: decoded as transformers does, which is slower (%s)", type(network).__name__, error
        )
        return None


def _thick_enough(pixels: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Pixels (h, w, 3), of a strip so thin that its short side would be scaled to nothing, repeated
    until it is not."""
    height, width = pixels.shape[:2]
    least = -(-max(height, width) // side)
    axis = 0 if height < width else 1
    if 2 * min(height, width) >= least:
        return pixels.copy()
    return np.repeat(pixels, least, axis=axis)


def _side(size: Any) -> int:
    return int(size) if isinstance(size, int) else int(max(size))


def _sides(size: Any) -> set[int]:
    return {int(size["height"]), int(size["width"])}
