"""SAM 2's decoder (transformers' modules): the same transformer, and fine features when drawing.

What differs from SAM: a token in front for the object's presence, IoU through a sigmoid, a padding
point also after boxes, fine features of two resolutions added while upscaling, and a single answer
that is replaced by another if it turns out unstable once drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everything.core.device import sent
from everything.decoding.backends.choice import choose_backend
from everything.decoding.backends.protocol import Backend, Limits
from everything.decoding.decoder_parts import (
    ChannelNorm,
    CrossAttention,
    Layer,
    Network,
    Parts,
    UnlikeSAM,
    Upscaling,
)
from everything.decoding.image_side import Cells, Skips, image_side
from everything.decoding.reference import PlainCandidates, numbered
from everything.decoding.shared_image import DEFAULT_LIMITS, SharedImage
from everything.decoding.weight_folding import Folded, fold


def read_sam2(mask_decoder: nn.Module) -> Parts:
    """Return the parts of a mask decoder with the structure of transformers' `Sam2MaskDecoder`.

    Raises UnlikeSAM, saying what differs.
    """
    m: Any = mask_decoder
    try:
        layers = [_layer(layer) for layer in m.transformer.layers]
        if len(layers) != 2:
            raise UnlikeSAM(f"the transformer has {len(layers)} layers, not 2")
        learned = (m.obj_score_token.weight, m.iou_token.weight, m.mask_tokens.weight)
        return Parts(
            tokens=torch.cat(learned).detach(),
            iou_at=1,
            masks_at=2,
            first=layers[0],
            second=layers[1],
            final=_cross_attention(m.transformer.final_attn_token_to_image),
            final_norm=m.transformer.layer_norm_final_attn,
            upscaling=_upscaling(m),
            hypernetworks=tuple(m.output_hypernetworks_mlps),
            iou_head=m.iou_prediction_head,
            single_by_looks=_looks(m) if m.dynamic_multimask_via_stability else None,
        )
    except AttributeError as error:
        raise UnlikeSAM(f"{type(mask_decoder).__name__}: {error}") from error


def encode_sam2(
    prompt_encoder: nn.Module, points: Tensor, labels: Tensor, masks: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return SAM 2's sparse (P, T', C) and dense (P or 1, C, h, w) embeddings of P prompts.

    points (P, K, 2) xy, px of the prompt encoder's frame. labels int64 (P, K): 1 inside, 0
    outside, -1 padding, 2 and 3 a box's corners, in any columns. masks (P, 1, 4 h, 4 w): logits.
    """
    encoder: Any = prompt_encoder
    device = encoder.no_mask_embed.weight.device
    points, labels = sent(points, device)[None], sent(labels, device)[None]
    sparse, dense = encoder(
        input_points=points, input_labels=labels, input_boxes=None, input_masks=masks
    )
    return sparse[0], dense


@dataclass(frozen=True)
class PlainSam2Image:
    """What SAM 2's modules need of an image: position and embedding (1, C, h, w), fine features
    if the encoder has any."""

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    position: Tensor
    embedding: Tensor
    skips: Skips | None

    @torch.no_grad()
    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> PlainCandidates:
        """Return the candidates of P prompts; arguments are those of `encode_sam2`."""
        sparse, dense = encode_sam2(self.prompt_encoder, points, labels, masks)
        if masks is None:
            return _candidates(*self._ask(sparse[None], dense[:1], multimask_output))
        # The module takes one dense embedding for all prompts of a call.
        answers = [
            self._ask(sparse[None, p : p + 1], dense[p : p + 1], multimask_output)
            for p in range(len(sparse))
        ]
        return _candidates(*(torch.cat(each) for each in zip(*answers, strict=True)))

    def _ask(self, sparse: Tensor, dense: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits (P, M, 4 h, 4 w) and scores (P, M)."""
        dtype = self.embedding.dtype
        # The module adds them while it upscales.
        fine = self.skips or (self.embedding.new_zeros(1, 1, 1, 1),) * 2
        logits, scores, *_ = self.mask_decoder(
            image_embeddings=self.embedding,
            image_positional_embeddings=self.position,
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=multimask,
            high_resolution_features=list(fine),
        )
        return logits[0], scores[0]


@dataclass(frozen=True)
class SharedSam2Decoder:
    """The exact decoder of SAM 2's prompt encoder and mask decoder.

    position (1, C, h, w): the dense positional encoding. The weights are folded when it is made:
    changes of the modules after that are not seen.
    """

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    position: Tensor
    parts: Parts
    folded: Folded
    backend: Backend

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        position: Tensor,
        kernels: str = "auto",
        compile: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> SharedSam2Decoder:
        """Return the decoder of two modules.

        Args:
            prompt_encoder: SAM 2's.
            mask_decoder: SAM 2's.
            position: The dense positional encoding, (1, C, h, w).
            kernels: See `Compute.kernels`.
            compile: See `Compute.compile`.
            limits: What an accelerator is given at a time.

        Raises:
            UnlikeSAM: The modules' structure differs from SAM 2's.
            ConfigError: The kernels that are wished for do not serve it.
        """
        parts = read_sam2(mask_decoder)
        position = position.to(parts.tokens.dtype)
        folded = fold(parts, position[0].flatten(1).T)
        backend = choose_backend(parts, kernels, compile, limits)
        return cls(prompt_encoder, mask_decoder, position, parts, folded, backend)

    @property
    def in_bulk(self) -> bool:
        """Whether an image takes any number of prompts and masks: see `Backend`."""
        return self.backend.in_bulk

    @torch.no_grad()
    def prepare(
        self, embedding: Tensor, skips: Skips | None, content: Cells | None = None
    ) -> SharedImage:
        """Return an image ready for prompts.

        embedding (1, C, h, w), the no-memory embedding added; skips: the fine features after
        `conv_s0` and `conv_s1`, (1, C / 8, 4 h, 4 w) and (1, C / 4, 2 h, 2 w), or None if the
        encoder has none. content: rows and columns of the embedding that masks are drawn on; all
        by default, as SAM 2 does not pad.
        """
        encoder: Any = self.prompt_encoder
        grid = (embedding.shape[2], embedding.shape[3])
        X = embedding[0].flatten(1).T + encoder.no_mask_embed.weight.to(embedding.dtype)
        image = image_side(self.parts, self.folded, X, grid, content or grid, skips)
        plain = PlainSam2Image(
            self.prompt_encoder, self.mask_decoder, self.position, embedding, skips
        )

        def encode(points: Tensor, labels: Tensor) -> Tensor:
            return encode_sam2(self.prompt_encoder, points, labels)[0]

        side = self.backend.image(self.parts, self.folded, image)
        return SharedImage(self.parts, self.folded, image, encode, plain, side)


def _candidates(logits: Tensor, scores: Tensor) -> PlainCandidates:
    return PlainCandidates(*numbered(scores), logits.flatten(0, 1))


def _looks(decoder: Any) -> tuple[float, float]:
    delta, enough = (
        decoder.dynamic_multimask_stability_delta,
        decoder.dynamic_multimask_stability_thresh,
    )
    return float(delta), float(enough)


def _cross_attention(attention: Any) -> CrossAttention:
    a = attention
    return CrossAttention(a.q_proj, a.k_proj, a.v_proj, a.o_proj, int(a.num_attention_heads))


def _self_attention(attention: Any) -> Network:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # The module has a dimension of images in front, and returns its weights too.
        found: Tensor = attention(query=q[None], key=k[None], value=v[None])[0][0]
        return found

    return attend


def _layer(layer: Any) -> Layer:
    return Layer(
        self_attention=_self_attention(layer.self_attn),
        norm1=layer.layer_norm1,
        to_image=_cross_attention(layer.cross_attn_token_to_image),
        norm2=layer.layer_norm2,
        mlp=layer.mlp,
        norm3=layer.layer_norm3,
        to_tokens=_cross_attention(layer.cross_attn_image_to_token),
        norm4=layer.layer_norm4,
        replaces=bool(layer.skip_first_layer_pe),
    )


def _upscaling(decoder: Any) -> Upscaling:
    norm, gelu = decoder.upscale_layer_norm, decoder.activation
    if type(gelu).__name__ != "GELU":
        raise UnlikeSAM(f"the upscaling's activation is {type(gelu).__name__}")
    channel_norm = ChannelNorm(norm.weight.detach(), norm.bias.detach(), norm.eps)
    return Upscaling(decoder.upscale_conv1, channel_norm, decoder.upscale_conv2, gelu.approximate)
