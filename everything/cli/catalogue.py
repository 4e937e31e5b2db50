"""`everything variants`, `samplers`, `configs` and `settings`: what can be chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everything.cli import completion
from everything.cli.options import Config, Json, Sets
from everything.jobs.command_errors import exit_on_error


def variants(as_json: Json = False) -> None:
    """List the models (for --variant)."""
    from everything.recipes import catalogue

    records = catalogue.variants()
    if as_json:
        typer.echo(json.dumps(records, indent=2))
        return
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["status"].partition(": ")[0], []).append(record)
    width, console = max(len(record["name"]) for record in records), Console()
    for status, group in groups.items():
        table = Table(title=status, title_justify="left", title_style="bold")
        table.box, table.show_header, table.pad_edge = None, False, False
        table.add_column(width=width, no_wrap=True)
        table.add_column(width=7, justify="right")
        table.add_column(overflow="fold")
        for each in group:
            table.add_row(each["name"], _millions(each["parameters"]), _about(each))
        console.print(table, "", highlight=False)


def samplers(as_json: Json = False) -> None:
    """List the samplers, which choose the prompts (for --sampler)."""
    from everything.recipes import catalogue

    _list(catalogue.samplers(), ("name", "summary", "source", "settings"), as_json)


def configs(as_json: Json = False) -> None:
    """List the bundled recipes (for --config)."""
    from everything.recipes import catalogue

    _list(catalogue.configs(), ("name", "summary"), as_json)


def settings(
    variant: Annotated[
        str | None,
        typer.Option(
            help="Include this model's presets.",
            show_default="ucm-lite0",
            autocompletion=completion.variants,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Include this sampler's presets and settings.",
            show_default="grid-32",
            autocompletion=completion.samplers,
        ),
    ] = None,
    config: Config = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """List every setting with its value, for the given options, and its meaning."""
    with exit_on_error():
        from everything.recipes import catalogue

        records = catalogue.settings(variant, sampler, config, sets or ())
    if as_json:
        typer.echo(json.dumps(records, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("--set", no_wrap=True, min_width=max(len(each["name"]) for each in records))
    for column in ("value", "meaning"):
        table.add_column(column, overflow="fold")
    group = ""
    for each in records:
        if group != (group := each["name"].partition(".")[0]):
            table.add_row()
        table.add_row(each["name"], _text(each["value"]), _meaning(each))
    Console().print(table, highlight=False, markup=False)


def _meaning(setting: Mapping[str, Any]) -> str:
    choices, default = setting["choices"], setting["default"]
    notes = [f"one of {', '.join(choices)}"] if choices else []
    if setting["value"] != default:
        notes.append(f"default {_text(default)}")
    return f"{setting['meaning']} ({'; '.join(notes)})" if notes else setting["meaning"]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _millions(parameters: int | None) -> str:
    return "" if parameters is None else f"{parameters / 1e6:.1f} M"


def _about(record: Mapping[str, Any]) -> str:
    why = record["status"].partition(": ")[2]
    licence = record["licence"].replace("none stated", "no licence stated")
    iou, stability = record["pred_iou_thresh"], record["stability_score_thresh"]
    kept = "" if iou is None else f"IoU > {iou:g}, stability >= {stability:g}"
    dim = (f"[dim]{escape(part)}[/dim]" for part in (licence, kept) if part)
    parts = (escape(record["summary"]), *dim, escape(why))
    return "; ".join(part for part in parts if part)


def _list(records: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(records, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for record in records:
        table.add_row(*(_cell(record[column]) for column in columns))
    Console().print(table, highlight=False)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(inner)}" for key, inner in value.items())
    return str(value or "")
