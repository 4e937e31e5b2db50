"""The option --ray, whose address may be left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from everything.cli.defaults import Command

_NO_ADDRESS = "here"
_ADDRESS = re.compile(r"auto|here|(ray://)?[\w.-]+:\d+")


class CommandWithRay(Command):
    """A command whose option --ray takes an optional address.

    click's own optional values would take the INPUT in `--ray images/` for the address; here an
    argument is an address only if it looks like one.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with an explicit value after a --ray that has none."""
        return super().parse_args(ctx, list(_with_address(args)))


def _with_address(args: Iterable[str]) -> Iterator[str]:
    after_ray = False
    for arg in args:
        if after_ray and not _ADDRESS.fullmatch(arg):
            yield _NO_ADDRESS
        after_ray = arg == "--ray"
        yield arg
    if after_ray:
        yield _NO_ADDRESS


def address_of(ray: str) -> str | None:
    """Return the address for `ray.init`, None for --ray alone: RAY_ADDRESS, or else a new cluster
    on this machine."""
    return None if ray == _NO_ADDRESS else ray
