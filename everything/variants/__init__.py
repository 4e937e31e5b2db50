"""VARIANTS: the models, by name. UNAVAILABLE: models of the survey that are not offered, and why.

To add one here: a record in records/ and, if no module in networks/ builds its network yet, a
module with these two functions:

- `blueprint(**options) -> Blueprint`: the network, and the names of its tensors in the checkpoint.
- `build(state, path, compute, decoding, **options) -> Model`: the model, ready on its device.

To add one from another package: an entry point of the group `everything.variants` that names a
VariantRecord (everything/core/plugins.py).
"""

from __future__ import annotations

from everything.core.plugins import Registry
from everything.variants.records.bundled import BUNDLED
from everything.variants.records.efficientvit_efficientsam import EFFICIENT
from everything.variants.records.hq_sam_track_anything import HQ_SAM_TAM
from everything.variants.records.light_encoders import LIGHT
from everything.variants.records.sam import SAM
from everything.variants.records.unavailable import UNAVAILABLE
from everything.variants.spec import Unavailable, VariantRecord

__all__ = ["UNAVAILABLE", "VARIANTS", "Unavailable", "VariantRecord"]

VARIANTS = Registry(
    BUNDLED | SAM | LIGHT | EFFICIENT | HQ_SAM_TAM, "everything.variants", VariantRecord
)
