"""Lists for users: models, samplers, recipe files, and every setting with its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from everything.config import Recipe
from everything.recipes.resolve import composed, config_files, sampler_record, validated
from everything.samplers import SAMPLERS
from everything.variants import UNAVAILABLE, VARIANTS
from everything.variants.records import hub

Record = dict[str, Any]


def variants() -> list[Record]:
    """Return one record for each variant: name, family, parameters, input rule, licence, source,
    status; SAM 3, and one for all of Hugging Face's; then models of the survey that are not
    available, with the reason as status."""
    found = [record.row(name) for name, record in VARIANTS.items()]
    found += hub.rows()
    return found + [record.row(name) for name, record in UNAVAILABLE.items()]


def samplers() -> list[Record]:
    """Return one record for each sampler: name, summary, source, its settings with defaults."""
    return [
        {
            "name": name,
            "summary": record.summary,
            "source": record.source,
            "settings": validated(record.load(), dict(record.settings), name).model_dump(),
        }
        for name, record in SAMPLERS.items()
    ]


def configs() -> list[Record]:
    """Return one record for each recipe file that comes with the program: name and header."""
    return [{"name": name, "summary": _header(file)} for name, file in config_files()]


def settings(
    variant: str | None = None,
    sampler: str | None = None,
    config: Path | str | None = None,
    sets: Sequence[str] = (),
) -> list[Record]:
    """Return one record for each setting of a recipe: name, value, default, choices, meaning.

    value: what `resolve` makes of these arguments; nothing is downloaded for it. default: without
    the presets of the variant and the sampler. choices: of text, or None. Raises ConfigError.
    """
    _, tree = composed(variant, None, sampler, config, sets, None)
    recipe = validated(Recipe, tree | {"version": "", "weights": ""}, "recipe")
    kind = sampler_record(recipe.sampler["name"]).load()
    own = {key: value for key, value in recipe.sampler.items() if key != "name"}
    return [*_described(kind.model_validate(own), "sampler."), *_of_recipe(recipe)]


def default_settings() -> list[Record]:
    """Return `settings` with defaults and without those of the sampler, whose code takes seconds
    to import."""
    sampler = {"name": "grid"}
    return [*_of_recipe(Recipe(variant="", sampler=sampler, version="", weights=""))]


def _of_recipe(recipe: Recipe) -> Iterator[Record]:
    for group in Recipe.model_fields:
        value = getattr(recipe, group)
        if isinstance(value, BaseModel):
            yield from _described(value, f"{group}.")


def _described(chosen: BaseModel, prefix: str) -> Iterator[Record]:
    for name, field in type(chosen).model_fields.items():
        value = getattr(chosen, name)
        if isinstance(value, BaseModel):
            yield from _described(value, f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            yield {
                "name": prefix + name,
                "value": value,
                "default": default,
                "choices": _choices(field.annotation),
                "meaning": field.description or "",
            }


def _choices(annotation: Any) -> list[str] | None:
    return list(get_args(annotation)) if get_origin(annotation) is Literal else None


def _header(file: Traversable) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(comment)
