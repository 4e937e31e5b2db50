"""Defaults of options from the environment and from a file.

A flag wins over the environment, the environment over the file, the file over the default. The
variable of an option is EVERYTHING_COMMAND_OPTION, as in EVERYTHING_LABEL_VARIANT. The file is the
first of these that exists: everything.yaml beside the images (in an INPUT folder), everything.yaml
in the current folder, pyproject.toml there with [tool.everything]. It has a section for each
command, with options as they are called on the command line:

    label:
      variant: mobilesam
      set: [nms.kind=mask]
"""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from everything.core.file_names import printable
from everything.errors import ConfigError, reason_of, without_secrets
from everything.jobs.command_errors import exit_on_error

FILE = "everything.yaml"
# Images come from anywhere: what lies beside them decides neither what is written or loaded, nor
# where.
NOT_BESIDE_IMAGES = {
    "out", "overwrite", "continue-anyway", "checkpoint", "config", "set", "ray", "photos",
}  # fmt: skip


class Command(TyperCommand):
    """A command whose options have defaults from the environment and from a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with these defaults for options that are not among them."""
        if not ctx.resilient_parsing:
            with exit_on_error():
                self._add_defaults(ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; say first which options were taken from where."""
        taken = list(_taken(self, ctx))
        if taken:
            _say(f"options taken from elsewhere: {'; '.join(taken)}", ctx.params)
        return super().invoke(ctx)

    def _add_defaults(self, ctx: Any, args: list[str]) -> None:
        options = {_long_name(one): one for one in self.params if isinstance(one, TyperOption)}
        options.pop("help", None)
        command = _names(ctx)
        prefix = _variable(*command)
        known = {_variable(*command, name): option for name, option in options.items()}
        for variable, option in known.items():
            option.envvar, option.show_envvar = variable, False
        for variable in os.environ:
            if variable.startswith(f"{prefix}_") and variable not in known:
                raise ConfigError(f"{variable}: no such option{_near(variable, list(known))}")
        parsed, *_ = self.make_parser(ctx).parse_args(args=list(args))
        found = _file(parsed.get("inputs") or ())
        if found is not None:
            ctx.meta["everything.defaults"] = str(found)
            ctx.default_map = _default_map(found, command, options, ctx)


def _file(inputs: Any) -> Path | None:
    beside = [Path(one) / FILE for one in inputs if "://" not in str(one)]
    for file in (*beside, Path(FILE)):
        if file.is_file():
            return file
    project = Path("pyproject.toml")
    return project if project.is_file() and _section_of(project) is not None else None


def _section_of(project: Path) -> Any:
    try:
        tree = tomllib.loads(project.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{project}: not a readable TOML file ({reason_of(error)})") from error
    return tree.get("tool", {}).get("everything")


def _read(file: Path) -> Any:
    if file.name != FILE:
        return _section_of(file)
    # YAML takes longer to import than most commands without a file need.
    from everything.core.safe_yaml import parse_yaml

    try:
        return parse_yaml(file.read_bytes()) or {}
    except (OSError, ValueError) as error:
        reason = printable(reason_of(error))
        raise ConfigError(f"{printable(file)}: not a readable YAML file ({reason})") from error


def _default_map(
    file: Path, command: list[str], options: dict[str, TyperOption], ctx: Any
) -> dict[str, Any]:
    where = printable(file)
    section = _read(file)
    _check_names(section, ctx.find_root().command.commands, where)
    for name in command:
        section = section.get(name) or {}
        if not isinstance(section, dict):
            raise ConfigError(f"{where}: {name}: give options, as in `variant: mobilesam`")
    found: dict[str, Any] = {}
    for key, value in section.items():
        name, path = str(key).replace("_", "-"), printable(".".join((*command, str(key))))
        if name not in options:
            raise ConfigError(f"{where}: {path}: no such option{_near(name, list(options))}")
        if file.name == FILE and file.parent != Path() and name in NOT_BESIDE_IMAGES:
            raise ConfigError(
                f"{where}: {path}: not taken from a file beside images: give --{name}, or write it "
                f"to {FILE} in the current folder"
            )
        found[str(options[name].name)] = _value(options[name], value, f"{where}: {path}", ctx)
    return found


def _check_names(section: Any, commands: dict[str, Any], where: str) -> None:
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: give a section for each command, such as `label:`")
    for name in section:
        if name not in commands:
            near = _near(str(name), list(commands))
            raise ConfigError(f"{where}: {printable(str(name))}: no such command{near}")


def _value(option: TyperOption, value: Any, where: str, ctx: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    plain = all(isinstance(one, str | int | float | bool) for one in values)
    if not plain or (isinstance(value, list) and not option.multiple):
        raise ConfigError(f"{where}: give a single value")
    # As from the command line, but for flags.
    given: Any = value if option.is_flag and isinstance(value, bool) else str(value)
    if option.multiple:
        given = [str(one) for one in values]
    try:
        option.process_value(ctx, given)
    except typer.BadParameter as error:
        raise ConfigError(f"{where} = {printable(str(value))}: {error.message}") from error
    return given


def _taken(command: TyperCommand, ctx: Any) -> Iterator[str]:
    for option in command.params:
        source = getattr(ctx.get_parameter_source(option.name), "name", "")
        if source == "ENVIRONMENT":
            place = str(option.envvar)
        elif source == "DEFAULT_MAP":
            place = ctx.meta["everything.defaults"]
        else:
            continue
        value = without_secrets(printable(str(ctx.params[option.name])))
        yield f"{_long_name(option)} = {value} ({printable(place)})"


def _say(line: str, params: dict[str, Any]) -> None:
    if params.get("log_json"):
        event = {"event": "log", "time": round(time.time(), 3), "level": "info", "message": line}
        typer.echo(json.dumps(event), err=True)
    elif not params.get("quiet"):
        typer.secho(line, err=True, dim=True)


def _names(ctx: Any) -> list[str]:
    """The names of a command and of those above it, without the program's."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name)
        ctx = ctx.parent
    return names


def _long_name(option: Any) -> str:
    return str(max(option.opts, key=len)).lstrip("-")


def _variable(*names: str) -> str:
    return "_".join(("EVERYTHING", *names)).upper().replace("-", "_")


def _near(name: str, known: list[str]) -> str:
    from everything.recipes.suggest import nearest

    return nearest(name, known)
