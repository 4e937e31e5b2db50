"""JSON files of any size as a stream of UTF-8, whatever wrote them.

They may be compressed. Editors on Windows put a byte order mark in front, or write UTF-16. Python
writes NaN and Infinity, which are not JSON and become null here, and halves of characters, which
become U+FFFD. Whole numbers of any length (UUIDs) become text where parsers have no room for them.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from everything.core.file_names import printable
from everything.errors import AS_UTF_8, InputError, reason_of
from everything.io.datasets.compressed import DAMAGED, decompressed

_BLOCK = 2**16
_ZIP = b"PK\3\4"
# A text, or the beginning of one at the end of a block; numbers that are not JSON; numbers that may
# not fit into 64 bits.
_TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.)*+(?:"|\Z|\\\Z)|-?\bInfinity\b|\bNaN\b|(?<![\w.+-])-?\d{19,}(?![\w.])',
    re.DOTALL,
)
# Of texts: two halves of a character, one half without the other, other escapes.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F]..)|\\.", re.DOTALL
)
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_DEEPEST = 1000  # brackets that a block may open and not close
# What is outside texts; in run lengths other characters come before long.
_STRUCTURE = re.compile(rb"[\[\]{},:\s0-9+.eEtrufalsn-]{%d,}" % _DEEPEST)
_LONGEST = 64  # bytes after which a token of the last two kinds is known for what it is


class JsonStream:
    """The content of a JSON file as UTF-8, for parsers that call `read`.

    Args:
        stream: The file, open for reading bytes.
        with_nan: Whether what parsers refuse is replaced (see the module), which is several times
            slower.
    """

    def __init__(self, stream: BinaryIO, with_nan: bool = False) -> None:
        stream.seek(0)
        self._stream, self._with_nan = decompressed(stream), with_nan
        start = self._stream.read(4)
        self._stream.seek(3 if start.startswith(codecs.BOM_UTF8) else 0)
        encoding = json.detect_encoding(start)
        is_wide = not encoding.startswith("utf-8")
        self._text = codecs.getreader(encoding)(self._stream) if is_wide else None
        self._held = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, b"" at the end; size 0 tells a parser that this is no text."""
        if size == 0:
            return b""
        while True:
            block = self._block()
            if _depth(block) > _DEEPEST and _is_nested_deeply(block):
                # Parsers keep the way to each level, which would fill memory.
                raise ValueError("lists within lists without end")
            if not self._with_nan:
                return block
            text, self._held = _without_nan(self._held + block, is_last=not block)
            if text or not block:
                return text

    def _block(self) -> bytes:
        return self._text.read(_BLOCK).encode() if self._text else self._stream.read(_BLOCK)


def _depth(text: bytes) -> int:
    """How many more brackets are opened than closed."""
    return text.count(b"[") + text.count(b"{") - text.count(b"]") - text.count(b"}")


def _is_nested_deeply(block: bytes) -> bool:
    """Tell whether it is outside texts that so many are opened; the block may begin in a text."""
    parts = (_TEXT.sub(b"", part) for part in (block, block.partition(b'"')[2]))
    runs = (run[0] for part in parts for run in _STRUCTURE.finditer(part))
    return any(_depth(run) > _DEEPEST for run in runs)


def _without_nan(text: bytes, is_last: bool) -> tuple[bytes, bytes]:
    """Replace numbers that parsers refuse; also return the end that the next block decides on."""
    parts: list[bytes] = []
    start = end = 0
    # What is too near the end may go on in the next block.
    safe = len(text) if is_last else max(0, len(text) - _LONGEST)
    for token in _TOKEN.finditer(text):
        first, last = token.span()
        if first >= safe or (last == len(text) and not is_last):
            safe = min(safe, first)
            break
        found = text[first:last]
        read = _whole_characters(found) if found.startswith(b'"') else _as_text(found)
        if read is not found:
            parts += [text[start:first], read]
            start = last
        end = last
    if not is_last:  # never in the middle of a number or token
        safe = max(end, len(text[:safe].rstrip(b"0123456789.+-eE")))
    return b"".join([*parts, text[start:safe]]), text[safe:]


def _as_text(number: bytes) -> bytes:
    return b'"%s"' % number if number[-1:].isdigit() else b"null"


def _whole_characters(text: bytes) -> bytes:
    """Replace halves of characters, as Python writes names that are not UTF-8, by U+FFFD."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], text)


def read_items(
    file: Path, name: str, report: Callable[[float], None], with_nan: bool = False
) -> Iterator[Any]:
    """Yield what is in one of the lists at the top of a JSON file.

    Args:
        file: The file.
        name: The key of the list.
        report: Called with how much of the file has been read, 0 to 1.
        with_nan: As of `JsonStream`.

    Raises:
        ValueError: Where the file is not JSON.
        InputError: Where its text or its compressed data cannot be read.
    """
    import ijson

    size = max(1, file.stat().st_size)
    with _opened(file, with_nan) as stream:
        for row in ijson.items(JsonStream(stream, with_nan), f"{name}.item", use_float=True):
            yield row
            report(min(1.0, stream.tell() / size))


def kind_of(file: Path, name: str, with_nan: bool = False) -> Literal["list", "null", "nothing"]:
    """Return what a JSON file has under this name at its top.

    Raises:
        ValueError: If the file is not JSON up to there.
        InputError: If its text or its compressed data cannot be read.
    """
    import ijson

    kinds: dict[Any, Literal["list", "null"]]
    kinds = {(name, "start_array"): "list", (name, "null"): "null"}
    with _opened(file, with_nan) as stream:
        events = ijson.parse(JsonStream(stream, with_nan))
        return next((kinds[event[:2]] for event in events if event[:2] in kinds), "nothing")


@contextmanager
def _opened(file: Path, with_nan: bool) -> Iterator[BinaryIO]:
    """Open a file for a parser, whose errors are passed on as ours."""
    import ijson

    try:
        with file.open("rb") as stream:
            if stream.read(4) == _ZIP:
                raise InputError(f"{printable(file)}: a zip archive: unpack it, give what is in it")
            yield stream
    except ijson.JSONError as error:
        if with_nan and "UTF8" in _message(error):
            raise InputError(
                f"{printable(file)}: its text is not UTF-8 but, perhaps, Latin-1 or Windows-1252: "
                f"{AS_UTF_8}"
            ) from error
        raise ValueError(_message(error)) from error
    except DAMAGED as error:
        raise InputError(
            f"{printable(file)}: its compressed data are damaged or cut off ({reason_of(error)}): "
            "get another copy of it"
        ) from error


def _message(error: Exception) -> str:
    """What a parser says, which is bytes if the file is not UTF-8."""
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
