"""The nearest known name for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" with a known name that starts the same or is similar, or "".

    Case is ignored, and "_" is the same as "-".
    """
    wanted = _plain(name[:100])
    names = {_plain(each): each for each in known}
    near = [each for each in names if wanted and each.startswith(wanted)]
    near = near or difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    return f"; did you mean {names[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
