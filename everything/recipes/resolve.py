"""Recipes from names and settings: the defaults of variant and sampler, YAML files, flags."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from everything.config import Recipe
from everything.core.file_names import printable
from everything.core.safe_yaml import parse_yaml
from everything.errors import ConfigError, reason_of
from everything.recipes.provenance import other_files
from everything.recipes.suggest import nearest
from everything.samplers import SAMPLERS, SamplerRecord, pair
from everything.variants import UNAVAILABLE, VARIANTS, VariantRecord
from everything.variants.checkpoints.cache import staged
from everything.variants.checkpoints.weights import sha256
from everything.variants.records import hub

Tree = dict[str, Any]
_Settings = TypeVar("_Settings", bound=BaseModel)
_Entry = TypeVar("_Entry")
_SHOWN = 200  # characters of a value that is wrong
DEFAULT_VARIANT, DEFAULT_SAMPLER = "ucm-lite0", "grid-32"


def resolve(
    variant: str | None = None,
    checkpoint: Path | str | None = None,
    sampler: str | None = None,
    config: Path | str | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Recipe:
    """Return the complete recipe; what comes later in this list wins.

    SAM's defaults, the variant's presets, the sampler's preset, the YAML file `config` (a path or
    a name that `configs` lists), `sets` ("group.key=value"), `flags` (setting names and values,
    None for those not given). Raises ConfigError with the nearest name for one that is unknown,
    and WeightsError if the checkpoint, a path or URL, cannot be read.
    """
    record, tree = composed(variant, checkpoint, sampler, config, sets, flags)
    given_file = tree.get("checkpoint")
    file = staged(_text(given_file, "checkpoint")) if given_file is not None else None
    tree |= {
        "version": version("segevery"),
        "weights": sha256(file) if file else record.weights.digest(),
        "others": other_files(record, file, tree["sampler"]),
    }
    return validated(Recipe, tree, "recipe")


def composed(
    variant: str | None,
    checkpoint: Path | str | None,
    sampler: str | None,
    config: Path | str | None,
    sets: Sequence[str],
    flags: Mapping[str, object] | None,
) -> tuple[VariantRecord, Tree]:
    """Return the variant, and a recipe but for what is read from files: see `resolve`."""
    given = _merged(*_given(variant, checkpoint, sampler, config, sets))
    variant_name = _text(given.setdefault("variant", DEFAULT_VARIANT), "variant")
    if hub.is_hub_name(variant_name):
        own = given.get("checkpoint")
        own = own if own is None else _text(own, "checkpoint")
        given["variant"], given["checkpoint"] = hub.named(variant_name, own)
    record = variant_record(given["variant"], given.get("checkpoint"))
    chosen = given.pop("sampler", {})
    if not isinstance(chosen, dict):
        raise ConfigError(f"sampler = {_cut(chosen)}: must be a name, or a mapping with one")
    sampler_name = _text(chosen.pop("name", DEFAULT_SAMPLER), "sampler.name")
    kind = sampler_record(sampler_name)
    # A sampler's settings are in its module, which imports PyTorch: all else is checked before.
    presets = _merged(_plain(record.preset), _plain(kind.preset))
    _check_groups(_merged(presets, given, _grouped_without_sampler(flags or {})))
    # Flags have no group: where each belongs is known once the sampler is.
    flag_tree = _grouped(flags or {}, kind)
    chosen = _merged(_suited(sampler_name, record), chosen, flag_tree.pop("sampler", {}))
    settings = validated(kind.load(), chosen, f"sampler {sampler_name}")
    tree = _merged(presets, given, flag_tree)
    _check_decoding(tree, variant_name, record)
    tree["sampler"] = {"name": sampler_name} | settings.model_dump(mode="json")
    return record, tree


def _check_decoding(tree: Tree, variant: str, record: VariantRecord) -> None:
    """Raise ConfigError for settings of the decoder that a variant does not have."""
    own = {name for other in VARIANTS.values() for name in other.decoding}
    for name in own.difference(record.decoding):
        if tree.get("decoding", {}).get(name):
            having = ", ".join(n for n, other in VARIANTS.items() if name in other.decoding)
            raise ConfigError(
                f"decoding.{name}: {variant} has no such setting: leave it out, or choose one of "
                f"{having}"
            )


def _check_groups(tree: Tree) -> None:
    """Raise ConfigError for a wrong name or value in the groups of settings that are given."""
    for group, settings in tree.items():
        if group not in Recipe.model_fields:
            hint = nearest(group, _paths(Recipe))
            raise ConfigError(f"recipe: {_cut(group)}: no such setting{hint}")
        kind = Recipe.model_fields[group].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(settings, dict):
            try:
                kind.model_validate(settings)
            except ValidationError as error:
                raise ConfigError(_explain(error, Recipe, "recipe", group)) from error


def _grouped_without_sampler(flags: Mapping[str, object]) -> Tree:
    homes = _homes()
    tree: Tree = {}
    for name, value in flags.items():
        if value is not None and name in homes:
            tree.setdefault(homes[name], {})[name] = value
    return tree


def _homes() -> dict[str, str]:
    """The group of each setting that is not a sampler's."""
    homes: dict[str, str] = {}
    for group, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            homes |= dict.fromkeys(field.annotation.model_fields, group)
    return homes


def variant_record(name: str, checkpoint: str | None = None) -> VariantRecord:
    """Return the record of a variant; raises ConfigError.

    checkpoint: decides the presets of the variant "hf", a folder.
    """
    if hub.is_hub_name(name):
        return hub.hub_record(name, checkpoint)
    if name in UNAVAILABLE:
        raise ConfigError(f"variant {name!r} is no model: {UNAVAILABLE[name].status}")
    return _look_up(VARIANTS, name, "variant", UNAVAILABLE)


def _given(
    variant: str | None,
    checkpoint: Path | str | None,
    sampler: str | None,
    config: Path | str | None,
    sets: Sequence[str],
) -> Iterator[Tree]:
    if config is not None:
        yield _with_named_sampler(_read_yaml(config))
    for assignment in sets:
        yield _with_named_sampler(_parse_set(assignment))
    if variant is not None:
        yield {"variant": variant}
    if checkpoint is not None:
        yield {"checkpoint": str(checkpoint)}
    if sampler is not None:
        yield {"sampler": {"name": sampler}}


def _with_named_sampler(tree: Tree) -> Tree:
    """`sampler: grid-16` is short for `sampler: {name: grid-16}`."""
    if isinstance(tree.get("sampler"), str):
        return tree | {"sampler": {"name": tree["sampler"]}}
    return tree


def _read_yaml(config: Path | str) -> Tree:
    named = dict(config_files())
    file: Traversable | Path = named.get(str(config), Path(config))
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = nearest(str(config), named)
        raise ConfigError(f"{config}: no such file or named config{hint}") from error
    except (OSError, ValueError) as error:
        reason = printable(reason_of(error))
        raise ConfigError(f"{config}: not a readable YAML file ({reason})") from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{config}: a recipe is a mapping of names to settings")
    return tree or {}


def _parse_set(assignment: str) -> Tree:
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {_cut(assignment)}: write it as group.key=value")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"--set {_cut(assignment)}: the value is not YAML ({error})") from error
    for key in reversed(path.split(".")):
        value = {key: value}
    tree: Tree = value
    return tree


def _grouped(flags: Mapping[str, object], sampler: SamplerRecord) -> Tree:
    """The flags that were given, each under the group whose setting it is."""
    homes = dict.fromkeys(sampler.load().model_fields, "sampler") | _homes()
    tree: Tree = {}
    for name, value in flags.items():
        if value is None:
            continue
        if name not in homes:
            raise ConfigError(
                f"{_cut(name)}: this sampler has no such setting{nearest(name, homes)}"
            )
        tree.setdefault(homes[name], {})[name] = value
    return tree


def _merged(*trees: Mapping[str, Any]) -> Tree:
    merged: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            old = merged.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                value = _merged(old, value)
            merged[key] = value
    return merged


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{what} = {_cut(value)}: must be text")
    return value


def _cut(value: object) -> str:
    text = printable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _plain(preset: Mapping[str, Mapping[str, Any]]) -> Tree:
    return {group: dict(settings) for group, settings in preset.items()}


def validated(kind: type[_Settings], tree: Tree, where: str) -> _Settings:
    """Return settings of a kind; raises ConfigError that says which one of `where` is wrong."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, where)) from error


def _explain(error: ValidationError, kind: type[BaseModel], where: str, *above: str) -> str:
    first = error.errors(include_url=False)[0]
    path = _cut(".".join(str(part) for part in (*above, *first["loc"])))
    if first["type"] != "extra_forbidden":
        return f"{where}: {path} = {_cut(first['input'])}: {first['msg']}"
    known = _paths(kind)
    return f"{where}: {path}: no such setting{nearest(path, known)}"


def _paths(kind: type[BaseModel], prefix: str = "") -> list[str]:
    paths = []
    for name, field in kind.model_fields.items():
        paths.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += _paths(field.annotation, f"{prefix}{name}.")
    return paths


def _look_up(
    registry: Mapping[str, _Entry], name: str, kind: str, others: Iterable[str] = ()
) -> _Entry:
    if name not in registry:
        names = ", ".join(registry)
        near = nearest(name, [*registry, *others])
        raise ConfigError(f"{kind} '{_cut(name)}' is not known{near}; known: {names}")
    return registry[name]


def sampler_record(name: str) -> SamplerRecord:
    """Return the record of a sampler, or of two as in "object-aware+grid-32"."""
    first, *rest = (_one_sampler(part) for part in name.split("+"))
    return functools.reduce(pair, rest, first)


def _one_sampler(name: str) -> SamplerRecord:
    for known, record in SAMPLERS.items():
        if name not in SAMPLERS and name.lower() in record.source.lower().split():
            near = f"did you mean {known}, of {record.source}?"
            raise ConfigError(f"sampler {name!r} is not known; {near}")
    return _look_up(SAMPLERS, name, "sampler")


def _suited(name: str, variant: VariantRecord) -> Tree:
    """The settings that a sampler, or each of two, has under its name and for a variant."""
    first, plus, then = name.rpartition("+")
    if plus:
        return {"first": _suited(first, variant), "then": _suited(then, variant)}
    return _merged(SAMPLERS[name].settings, variant.samplers.get(name, {}))


def config_files() -> list[tuple[str, Traversable]]:
    """Return the recipes that come with the program, by name."""
    entries = sorted(files("everything.configs").iterdir(), key=lambda entry: entry.name)
    return [(e.name.removesuffix(".yaml"), e) for e in entries if e.name.endswith(".yaml")]
