"""Names of images (relative paths with "/"): as text, as numbers, and checked.

File names are bytes. Python represents those that are not UTF-8 with lone surrogates (PEP 383), and
so do the JSON files here: they are pure ASCII with \\udcXX escapes, from which Python restores the
exact name. Where text must be valid Unicode (parquet, messages), use `as_text` or `printable`.
"""

from __future__ import annotations

import hashlib
import os
import re

from everything.errors import without_secrets

_LONGEST = 4096  # characters
_ELSEWHERE = {"", ".", ".."}  # an absolute name begins with an empty part
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def as_text(name: str | os.PathLike[str]) -> str:
    """Return a name as valid Unicode: bytes that are not UTF-8 become \\xNN."""
    return _bytes(os.fspath(name)).decode("utf-8", "backslashreplace")


def printable(name: str | os.PathLike[str]) -> str:
    """Return a name as one line of valid Unicode: control characters escaped, truncated, and URLs
    without secrets."""
    text = without_secrets(as_text(name))
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)


def image_id(name: str) -> int:
    """Return the ID of a name, the same on every machine.

    It has 53 bits, so that readers that store numbers as doubles (JavaScript, jq) keep it exact.
    """
    digest = hashlib.sha256(_bytes(name)).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def _bytes(name: str) -> bytes:
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:  # JSON may contain lone surrogates that no file name has
        return name.encode("utf-8", "surrogatepass")


def is_inside(name: str) -> bool:
    """Tell whether a name is possible for a file and does not lead out of its folder."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return "\0" not in name and _ELSEWHERE.isdisjoint(name.split("/"))
