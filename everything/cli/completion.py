"""Names that the shell completes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import typer


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


def listed(names: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Return what completes the last name of a list with commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [f"{before}{comma}{name}" for name in names(last) if name not in given]

    return complete


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings that begin so, as NAME=, then their values; sampler.… of the sampler."""
    from everything.errors import ConfigError
    from everything.recipes import catalogue

    name, equals, value = incomplete.partition("=")
    records = catalogue.default_settings()
    if name.startswith("sampler."):  # imports PyTorch
        with suppress(ConfigError):  # no such sampler
            records = catalogue.settings(None, ctx.params.get("sampler"))
    if not equals:
        names = [f"{each['name']}=" for each in records] + ["sampler."]
        return [one for one in names if one.startswith(name) and one != name]
    choices = [_choices(each) for each in records if each["name"] == name]
    return [f"{name}={one}" for some in choices for one in some if one.startswith(value)]


def _choices(setting: Mapping[str, Any]) -> list[str]:
    if isinstance(setting["default"], bool):
        return ["true", "false"]
    return list(setting["choices"] or ())
