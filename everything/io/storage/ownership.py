"""Which folders this program made: each has a marker file that says what kind of folder it is.

Only files that this program wrote are ever replaced or deleted. In a results folder the manifest
lists them. In other folders the marker does, with a line for each file after its first line, except
in folders of unpacked images, where nothing is ever replaced or deleted.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, get_args

from everything.core.file_names import printable
from everything.errors import StoreError

MARKER = ".everything.jsonl"
FORMAT = 1  # of the marker
Kind = Literal["results", "images", "report", "overlays", "export", "benchmark", "training"]


def header(kind: Kind) -> bytes:
    """Return the first line of a marker."""
    return json.dumps({"program": "everything", "kind": kind, "format": FORMAT}).encode() + b"\n"


def kind_of(marker: bytes | None, where: object) -> Kind | None:
    """Return the kind of folder that a marker's content names; None if it is no marker.

    Args:
        marker: The content of the file.
        where: The folder, for messages.

    Raises:
        StoreError: A newer version of the program wrote it.
    """
    about = parsed((marker or b"").partition(b"\n")[0])
    kind, number = about.get("kind"), about.get("format")
    if about.get("program") != "everything" or not isinstance(number, int):
        return None
    if number > FORMAT:
        raise StoreError(
            f"{printable(str(where))}: written by a newer version of this program: update this one"
        )
    return kind if kind in get_args(Kind) else None


def fingerprint(content: bytes) -> str:
    """Return a short hash that tells whether a file's content is still the same."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def source_hash(content: bytes) -> int:
    """Return the hash of an image file for the manifest, a signed number of 64 bits."""
    return signed(fingerprint(content))


def signed(short_hash: str) -> int:
    """Return what `fingerprint` returns as a signed number of 64 bits."""
    return int.from_bytes(bytes.fromhex(short_hash), "big", signed=True)


def parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line, or an empty one if there is none."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
