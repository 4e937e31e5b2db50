"""Lists of images: parquet, CSV, TSV or JSONL (NDJSON) with a column of URIs, text with one a line.

The column is `uri`, or one of the other names in COLUMNS, or else the first with an image in it. A
column `name` says what results are called; without one it is the URI without its scheme, query, "."
and "..". Lists of Excel are read as they are: a byte order mark, UTF-16, semicolons, tabs
or bars, and `\\` between the parts of paths.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import posixpath
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any

from everything.core.file_names import as_text, printable
from everything.errors import EverythingError, InputError, reason_of, without_secrets
from everything.io.images.sources import Source, has_image_suffix
from everything.io.storage.hashed_index import repeated
from everything.io.storage.locations import Location, Url, located, opened
from everything.io.storage.walk import without_empty_parts

LISTS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".txt")
COLUMNS = (
    *("uri", "url", "path", "file", "image", "file_name", "filename"),
    *("image_path", "img_path", "file_path", "filepath", "image_url", "image_uri", "img"),
)
_DELIMITERS = ",;\t|"
_LONGEST_CELL = 2**24  # characters; captions and base64 are longer than csv's 131,072
_DOTS = re.compile(r"^(?:\./+)+")
_FILE = re.compile("file:(?://|(?=/))", re.IGNORECASE)
_SEPARATOR = re.compile("sep=(.)", re.IGNORECASE)


def list_entries(place: Location) -> Iterator[Source]:
    """Yield the images of a list, in its order, each once; raises InputError if it is none, or if
    two of its images have one name.

    The list is read twice, row by row: names are kept as 16 bytes each to know which come again.
    """
    is_repeated = repeated(as_text(source.name) for source in _entries(place))
    first: dict[str, Source] = {}
    for source in _entries(place):
        if is_repeated(as_text(source.name)):
            other = first.setdefault(source.name, source)
            if _where(other) != _where(source):
                raise InputError(
                    f"{printable(str(place))}: {other.printable} and {source.printable} would have "
                    f"results of one name ({printable(source.name)}): give names in a column `name`"
                )
            if other is not source:
                continue
        yield source


def _where(source: Source) -> str:
    return str(source.file).removeprefix("file://")


def _entries(place: Location) -> Iterator[Source]:
    home = place.parent if isinstance(place, Url) else place.absolute().parent
    try:
        with _opened(place) as file:
            for number, row in enumerate(_rows(place.name.lower(), file), 1):
                try:
                    yield _source(row, home)
                except ValueError as error:
                    raise ValueError(f"row {number:,}: {reason_of(error)}") from error
    except EverythingError:
        raise
    except Exception as error:  # parsers of four formats raise anything
        raise InputError(
            f"{printable(str(place))}: not a list of images "
            f"({printable(reason_of(error))}): give one row an image with a column {COLUMNS[0]}"
        ) from error


def _opened(place: Location) -> IO[bytes]:
    return place.open("rb") if isinstance(place, Path) else opened(place)


def _rows(name: str, file: IO[bytes]) -> Iterator[Mapping[str, Any]]:
    if name.endswith(".parquet"):
        yield from _parquet(file)
        return
    text = _text(file)
    if name.endswith((".csv", ".tsv")):
        yield from _csv(text)
    elif name.endswith((".jsonl", ".ndjson")):
        rows = (json.loads(line) for line in text if line.strip())
        yield from (row if isinstance(row, dict) else {"uri": row} for row in rows)
    else:
        yield from ({"uri": line.strip()} for line in text if line.strip())


def _text(file: IO[bytes]) -> Iterator[str]:
    """The lines of a file, without its byte order mark."""
    start = file.read(4)
    file.seek(0)
    wrapped = io.TextIOWrapper(file, encoding=_encoding(start), newline="")
    try:
        yield from wrapped
    except UnicodeDecodeError as error:
        raise ValueError(reason_of(error)) from error
    finally:
        if not wrapped.closed:
            wrapped.detach()


def _encoding(start: bytes) -> str:
    """The encoding of a text that begins so; no name has a zero in it."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return {0: "utf-16-be", 1: "utf-16-le"}.get(start[:2].find(0), "utf-8-sig")


def _csv(lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return
    if (said := _SEPARATOR.fullmatch(first.strip())) is not None:  # a line that Excel reads itself
        delimiter, first = said[1], next(lines, "")
    else:
        delimiter = _delimiter(first)
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    rows: Iterator[list[str]] = csv.reader(
        chain([first], lines), delimiter=delimiter, skipinitialspace=True
    )
    cells = [cell.strip() for cell in next(rows, [])]
    if any(map(_is_image, cells)):  # no header
        rows, header = chain([cells], rows), [""] * len(cells)
    else:
        # Excel writes names as people do.
        header = [_column(cell) or cell for cell in cells]
    if not set(COLUMNS).intersection(header):
        header, rows = _with_uri(header, rows)
    for row in rows:
        if any(cell.strip() for cell in row):
            yield dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False))


def _with_uri(
    header: list[str], rows: Iterator[list[str]]
) -> tuple[list[str], Iterator[list[str]]]:
    """Call the column that has the images in the first row by its name, or else the first one."""
    first = next(rows, None)
    if first is None:
        return header, rows
    column = next((number for number, cell in enumerate(first) if _is_image(cell)), 0)
    named = [COLUMNS[0] if number == column else name for number, name in enumerate(header)]
    return named, chain([first], rows)


def _delimiter(header: str) -> str:
    """The separator that makes known names of the first line, or else the one it has most often."""
    if not any(other in header for other in _DELIMITERS[1:]):
        return ","
    known = {*COLUMNS, "name"}

    def fits(delimiter: str) -> tuple[int, int]:
        cells = [_column(cell.strip(' \r\n"')) for cell in header.split(delimiter)]
        return len(known.intersection(cells)), len(cells)

    return max(_DELIMITERS, key=fits)


def _column(cell: str) -> str:
    """The known name of a column for what people write, such as Image Path; else nothing."""
    name = re.sub(r"[ -]", "_", cell.lower())
    return name if name in (*COLUMNS, "name") else ""


def _is_image(cell: str) -> bool:
    """Tell whether a cell of a CSV file has an image, and not the name of a column."""
    return "://" in cell or has_image_suffix(cell.replace("\\", "/").rsplit("/", 1)[-1])


def _parquet(file: IO[bytes]) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error
    names = table.schema_arrow.names
    columns = [_uri_column(names), *(["name"] if "name" in names else [])]
    for batch in table.iter_batches(columns=columns):
        yield from batch.to_pylist()


def _uri_column(names: Iterable[str]) -> str:
    known = list(names)
    by_column = {_column(name): name for name in reversed(known)}
    return next((by_column[column] for column in COLUMNS if column in by_column), known[0])


def _name_of(uri: str) -> str:
    """The name of an image: its URI without scheme, user, password and query."""
    scheme, separator, rest = without_secrets(uri).partition("://")
    return (rest if separator else scheme).lstrip("/")


def _source(row: Mapping[str, Any], home: Location) -> Source:
    uri = row[_uri_column(row)]
    if not isinstance(uri, str) or not uri.strip():
        raise ValueError(f"{reprlib.repr(uri)} is not a URI")
    given = row.get("name")
    if (scheme := _FILE.match(uri)) is not None:
        if isinstance(home, Url):
            raise ValueError(f"{uri} is of this machine, the list is not")
        path = str(located(f"file://{uri[scheme.end() :]}"))
        return Source(str(Path(path).parent), _name(given, path), file=path)
    if "://" in uri:
        url = Url(uri)
        return Source(str(url.parent), _name(given, uri), file=uri)
    # What is beside the list; a list in the web must not make us read files of this machine.
    if isinstance(home, Url):
        uri = _DOTS.sub("", uri)
        url = home / uri.lstrip("/")
        return Source(str(home), _name(given, uri[: len(uri) - len(url) + len(url.without_query)]),
                      file=str(url))  # fmt: skip
    uri = _with_slashes(_without_quotes(uri, home), home)
    name = _name(given, posixpath.normpath(f"/{uri}"))  # a name without "." and ".."
    if uri.startswith("/"):
        return Source(str(Path(uri).parent), name, file=uri)
    return Source(str(home), name, file=f"{home}/{_DOTS.sub('', uri)}")


def _name(given: Any, where: str) -> str:
    """What an image's results are called: as the list says, or by where it is."""
    return _name_of(str(given)) if given else without_empty_parts(_name_of(where))


def _without_quotes(path: str, home: Path) -> str:
    """A path without the quotes in which Windows copies it, unless a file has them in its name."""
    is_quoted = len(path) > 2 and path[0] == path[-1] == '"'
    return path[1:-1] if is_quoted and not os.path.lexists(home / path) else path


def _with_slashes(path: str, home: Path) -> str:
    """A path as Windows writes it, unless there is a file of that very name."""
    if "\\" not in path or os.path.lexists(home / path):
        return path
    return path.replace("\\", "/")
