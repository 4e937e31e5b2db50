"""SAM's two-way mask decoder with the image side computed once for all prompts, exactly.

    decoder = SharedImageDecoder.of(prompt_encoder, mask_decoder)   # or PlainDecoder(...)
    image = decoder.prepare(embedding)                               # once for each image
    candidates = image.propose(points, labels, multimask_output=True)    # scores, nothing drawn yet
    logits = candidates.draw(rows)                                       # draws only these rows

`decoder_parts` reads a decoder's parts, `weight_folding` computes what follows from its weights and
`image_side` what follows from an image. `prompt_encoding`, `token_attention`, `low_rank`,
`image_passes` and `transformer` run the transformer for prompts, `upscale` draws the masks.
`backends` has what computes the passes, on CPUs and GPUs; `backends.choice` decides which.
`sam2` adds what SAM 2 has, `hq` what HQ-SAM has.
The algebra, with figures, is in docs/fast-decoder.md; its symbols are used throughout.
"""

from everything.decoding.backends.protocol import Limits
from everything.decoding.decoder_parts import UnlikeSAM
from everything.decoding.hq import HqDecoder
from everything.decoding.image_side import Cells, content_cells
from everything.decoding.protocols import Decoder, PreparedImage
from everything.decoding.reference import PlainCandidates, PlainDecoder, PlainImage
from everything.decoding.sam2 import PlainSam2Image, SharedSam2Decoder
from everything.decoding.shared_image import (
    SharedCandidates,
    SharedImage,
    SharedImageDecoder,
    choose,
)

__all__ = [
    "Cells",
    "Decoder",
    "HqDecoder",
    "Limits",
    "PlainCandidates",
    "PlainDecoder",
    "PlainImage",
    "PlainSam2Image",
    "PreparedImage",
    "SharedCandidates",
    "SharedImage",
    "SharedImageDecoder",
    "SharedSam2Decoder",
    "UnlikeSAM",
    "choose",
    "content_cells",
]
