"""What a record of a variant is, and the words that many of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from everything.variants.checkpoints.reader import Weights

PADDED = "longest side to 1024 px, padded"
STRETCHED = "stretched to 1024 x 1024 px"
PADDED_512 = "longest side to 512 px, padded; prompts at 1024 px"
APACHE = "Apache-2.0"
GITHUB = "https://github.com"
HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True)
class VariantRecord:
    """What there is to know of a variant before it is loaded.

    module: the file of this package whose `build` makes it, with `options`. weights: where they
    come from. preset: defaults of the recipe's groups that this variant changes. samplers: of the
    settings of samplers, by the sampler's name. lender: the variant from whose checkpoint the
    tensors come whose names start with `lent`, where this one's has none of them
    (everything/variants/checkpoints/shared_weights.py).
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
    lender: str = ""
    lent: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """How one gets its weights, in a few words."""
        return self.weights.status

    def row(self, name: str) -> dict[str, Any]:
        """Return what `everything variants` says of it."""
        return {
            "name": name,
            "family": self.family,
            "summary": self.summary,
            "parameters": self.parameters,
            "input": self.input_rule,
            "licence": self.licence,
            "weights": self.weights.source,
            "status": self.status,
        }


@dataclass(frozen=True)
class Unavailable:
    """A system of the survey that is no variant here, why, and what to use where there is it."""

    family: str
    summary: str
    reason: str
    licence: str = "none stated"
    parameters: int | None = None
    instead: str = ""

    @property
    def status(self) -> str:
        """Why, or how else one gets it, in a few words."""
        return f"{self.reason}: {self.instead}" if self.instead else f"not available: {self.reason}"

    def row(self, name: str) -> dict[str, Any]:
        """Return what `everything variants` says of it."""
        return {
            "name": name,
            "family": self.family,
            "summary": self.summary,
            "parameters": self.parameters,
            "input": "",
            "licence": self.licence,
            "weights": "",
            "status": self.status,
        }
