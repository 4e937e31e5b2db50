"""Names that the shell completes."""

from __future__ import annotations


def variants(incomplete: str) -> list[str]:
    """Return the variants that begin so."""
    from everything.variants import VARIANTS

    return [name for name in VARIANTS if name.startswith(incomplete)]


def samplers(incomplete: str) -> list[str]:
    """Return the samplers that begin so; of two, as in object-aware+grid-32, the second."""
    from everything.samplers import SAMPLERS

    first, plus, last = incomplete.rpartition("+")
    return [f"{first}{plus}{name}" for name in SAMPLERS if name.startswith(last)]


def configs(incomplete: str) -> list[str]:
    """Return the bundled recipes that begin so."""
    from everything.recipes.resolve import config_files

    return [name for name, _ in config_files() if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Return the export formats that begin so."""
    from everything.export import EXPORTERS

    return [name for name in EXPORTERS if name.startswith(incomplete)]
