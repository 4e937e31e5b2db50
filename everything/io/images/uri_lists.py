"""Lists of images: parquet, CSV or JSONL with a column of URIs, text with one a line.

The column is `uri`, or one of the other names in COLUMNS, or the first. A column `name` says what
results are called; without one it is the URI without its scheme.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from everything.core.file_names import as_text, printable
from everything.errors import EverythingError, InputError, reason_of, without_secrets
from everything.io.images.sources import Source
from everything.io.storage.hashed_index import repeated
from everything.io.storage.locations import Location, Url, opened

LISTS = (".parquet", ".csv", ".jsonl", ".txt")
COLUMNS = ("uri", "url", "path", "file", "image", "file_name", "filename")


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
            for row in _rows(place.name.lower(), file):
                yield _source(row, home)
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
    text = (line.decode("utf-8") for line in file)
    if name.endswith(".csv"):
        yield from csv.DictReader(text)
    elif name.endswith(".jsonl"):
        rows = (json.loads(line) for line in text if line.strip())
        yield from (row if isinstance(row, dict) else {"uri": row} for row in rows)
    else:
        yield from ({"uri": line.strip()} for line in text if line.strip())


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
    return next((column for column in COLUMNS if column in known), known[0])


def _name_of(uri: str) -> str:
    """The name of an image: its URI without scheme, user, password and query."""
    scheme, separator, rest = without_secrets(uri).partition("://")
    return (rest if separator else scheme).lstrip("/")


def _source(row: Mapping[str, Any], home: Location) -> Source:
    uri = row[_uri_column(row)]
    if not isinstance(uri, str) or not uri:
        raise ValueError(f"{uri!r} is not a URI")
    name = _name_of(str(row.get("name") or uri))
    if "://" not in uri:
        # What is beside the list; a list in the web must not make us read files of this machine.
        if isinstance(home, Url) and home.startswith("http"):
            name = re.split("[?#]", name, maxsplit=1)[0]
        if isinstance(home, Url) or not uri.startswith("/"):
            return Source(str(home), name, file=f"{home}/{uri.lstrip('/')}")
        return Source(str(Path(uri).parent), name, file=uri)
    if uri.startswith("file://") and isinstance(home, Url):
        raise ValueError(f"{uri} is of this machine, the list is not")
    return Source(uri.rpartition("/")[0], name, file=uri)
