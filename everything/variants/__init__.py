"""VARIANTS: every model, by name; UNAVAILABLE: what cannot be one, and why.

To add one: a record in records/ and, where no file here builds its network yet, a short file with
`blueprint(**options) -> Blueprint`, the network and how its checkpoint names it, and
`build(state, path, **options) -> Model`.
"""

from __future__ import annotations

from everything.variants.records.efficient import EFFICIENT
from everything.variants.records.embedded import EMBEDDED
from everything.variants.records.light import LIGHT
from everything.variants.records.sam import SAM
from everything.variants.records.unavailable import UNAVAILABLE
from everything.variants.spec import Unavailable, VariantRecord

__all__ = ["UNAVAILABLE", "VARIANTS", "Unavailable", "VariantRecord"]

VARIANTS: dict[str, VariantRecord] = EMBEDDED | SAM | LIGHT | EFFICIENT
