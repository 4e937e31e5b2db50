"""Parameter names of transformers' `SamModel` and `SamHQModel`, as in files on Hugging Face."""

from __future__ import annotations

from everything.variants.checkpoints.key_mapping import Dialect

HUGGING_FACE = Dialect(
    names=(
        (r"^image_encoder\.", "vision_encoder."),
        (r"\.blocks\.", ".layers."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"\.neck\.0\.", ".neck.conv1."),
        (r"\.neck\.1\.", ".neck.layer_norm1."),
        (r"\.neck\.2\.", ".neck.conv2."),
        (r"\.neck\.3\.", ".neck.layer_norm2."),
        (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"\.point_embeddings\.", ".point_embed."),
        # The positional encoding's matrix; older files have it a second time.
        (
            r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
            "shared_image_embedding.positional_embedding",
        ),
        (r"(_head|_mlps\.\d+)\.layers\.0\.", r"\1.proj_in."),
        (r"(_head|_mlps\.\d+)\.layers\.1\.", r"\1.layers.0."),
        (r"(_head|_mlps\.\d+)\.layers\.2\.", r"\1.proj_out."),
    ),
    unused=("prompt_encoder.shared_embedding.",),
)

HQ_HUGGING_FACE = Dialect(
    names=(
        (r"\.hf_token\.", ".hq_token."),
        (r"\.hf_mlp\.layers\.0\.", ".hq_mask_mlp.proj_in."),
        (r"\.hf_mlp\.layers\.1\.", ".hq_mask_mlp.layers.0."),
        (r"\.hf_mlp\.layers\.2\.", ".hq_mask_mlp.proj_out."),
        (r"\.compress_vit_feat\.0\.", ".compress_vit_conv1."),
        (r"\.compress_vit_feat\.1\.", ".compress_vit_norm."),
        (r"\.compress_vit_feat\.3\.", ".compress_vit_conv2."),
        (r"\.embedding_encoder\.0\.", ".encoder_conv1."),
        (r"\.embedding_encoder\.1\.", ".encoder_norm."),
        (r"\.embedding_encoder\.3\.", ".encoder_conv2."),
        (r"\.embedding_maskfeature\.0\.", ".mask_conv1."),
        (r"\.embedding_maskfeature\.1\.", ".mask_norm."),
        (r"\.embedding_maskfeature\.3\.", ".mask_conv2."),
        *HUGGING_FACE.names,
    ),
    unused=HUGGING_FACE.unused,
)
