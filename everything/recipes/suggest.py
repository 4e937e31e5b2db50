"""Which name was meant, where one is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" of a known name that begins like it or is similar, or "".

    Upper and lower case, "_" and "-" are the same here.
    """
    wanted = _plain(name[:100])
    names = {_plain(each): each for each in known}
    near = [each for each in names if wanted and each.startswith(wanted)]
    near = near or difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    return f"; did you mean {names[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
