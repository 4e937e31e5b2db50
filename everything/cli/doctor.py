"""`everything doctor`: what this installation can do, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from everything.cli.options import Json
from everything.jobs.command_errors import exit_on_error

# Optional packages, what each is for, and the extra that installs it.
_OPTIONAL = (
    ("s3fs", "s3:// URLs", "s3"),
    ("gcsfs", "gs:// URLs", ""),
    ("adlfs", "az:// URLs", ""),
    ("torchao", "everything quantize", "quantize"),
    ("supervision", "Segments.to_supervision", "convert"),
    ("fiftyone", "Segments.to_fiftyone", "convert"),
)


class Finding(NamedTuple):
    """A line of the report. way_out: what to do if it is not as it should be, else ""."""

    name: str
    value: str
    way_out: str = ""


def doctor(
    as_json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if anything needs attention.")
    ] = False,
) -> None:
    """Show devices, kernels, cores, caches, versions and licences, and what is missing."""
    with exit_on_error():
        found = list(findings())
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in found], indent=2))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for one in found:
            table.add_row(one.name, one.value)
            if one.way_out:
                table.add_row("", f"→ {one.way_out}", style="yellow")
        Console().print(table, highlight=False, markup=False)
    if strict and any(one.way_out for one in found):
        raise typer.Exit(1)


def findings() -> Iterator[Finding]:
    """Yield what was found, in the order in which it is shown."""
    from everything.benchmark.environment import machine

    about = machine()
    yield Finding("program", f"segevery {version('segevery')}, Python {about['python']}")
    yield Finding("system", f"{about['system']}, {about['cpu']}")
    yield Finding(
        "cores", f"{about['cores']} usable, {about['memory_bytes'] / 2**30:.0f} GiB memory"
    )
    yield from _devices()
    yield _kernels(about["kernels"])
    yield from _caches()
    for name in ("torch", "torchvision", "transformers", "ultralytics", "ray"):
        yield Finding(name, _version(name) or "not installed")
    for name, purpose, extra in _OPTIONAL:
        how = f"pip install 'segevery[{extra}]'" if extra else f"pip install {name}"
        there = _version(name)
        yield Finding(name, there or f"not installed: only needed for {purpose} ({how})")
    yield from _licences()


def _devices() -> Iterator[Finding]:
    import torch

    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = properties.total_memory / 2**30
        yield Finding(f"cuda:{number}", f"{properties.name}, {memory:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple GPU (--device mps)")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        if built is None:
            yield Finding("GPU", f"none: torch {torch.__version__} is a build without CUDA")
        else:
            yield Finding("GPU", f"none found (torch is built for CUDA {built})")


def _kernels(instructions: Any) -> Finding:
    if instructions:
        return Finding("C++ kernels", f"built ({instructions})")
    return Finding(
        "C++ kernels",
        "not built: the mask decoder is two to five times slower on the CPU",
        "install a C++ compiler, then reinstall segevery",
    )


def _caches() -> Iterator[Finding]:
    import shutil
    from pathlib import Path

    import torch

    home = Path(torch.hub.get_dir()) / "checkpoints"
    used = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
    yield Finding("weights cache", f"{home}, {used / 1e9:.1f} GB (TORCH_HOME moves it)")
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    way_out = "free some space: weights of one variant take up to 2.6 GB" if free < 5e9 else ""
    yield Finding("free disk", f"{free / 1e9:.0f} GB", way_out)


def _licences() -> Iterator[Finding]:
    from everything.variants import VARIANTS

    yield Finding("licence", "Apache-2.0; ultralytics, used by YOLO samplers, is AGPL-3.0")
    groups: dict[str, list[str]] = {}
    for name, record in VARIANTS.items():
        groups.setdefault(record.licence, []).append(name)
    for licence, names in groups.items():
        yield Finding("weights", f"{licence}: {', '.join(names)}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
