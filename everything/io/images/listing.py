"""Images in whatever holds them: folders, globs, buckets, lists of URIs, tar and zip archives.

Names are the paths relative to the input. Those of a list are its URIs without their scheme, so
that they do not depend on what else is listed; those of an archive's members begin with the
archive's own name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from everything.core.file_names import printable
from everything.errors import InputError
from everything.io.images.archives import ARCHIVES, COMPRESSED, UNPACK, members, unreadable
from everything.io.images.other_kinds import OtherKinds
from everything.io.images.own_output import without_own_objects
from everything.io.images.sources import Source, has_image_suffix, list_inputs
from everything.io.images.uri_lists import LISTS, list_entries
from everything.io.storage.locations import Location, Url, filesystem, located, with_retries
from everything.io.storage.ownership import MARKER
from everything.io.storage.walk import walk_images, without_empty_parts

_MAGIC = frozenset("*?[")
_TABLES = (".json", ".xlsx", ".xls", ".ods")


def list_images(inputs: Sequence[Location], leave_out: Location | None = None) -> Iterator[Source]:
    """Yield the images of all inputs, always in the same order; see list_inputs for folders.

    Of several inputs that are not all folders and files, each one's names begin with the last
    part of its own. Raises InputError at once if an input does not exist or cannot be listed, or
    two of several have the same last part.
    """
    plain = [place for place in inputs if isinstance(place, Path) and not _is_special(place)]
    out = leave_out if isinstance(leave_out, Path) else None
    if len(plain) == len(inputs):
        return list_inputs(plain, out)
    if len(inputs) == 1:
        return _listed(inputs[0], out)
    titles = [_title(place) for place in inputs]
    twice = {title for title in titles if titles.count(title) > 1}
    if twice:
        raise InputError(
            f"{printable(min(twice))}: two inputs end so: label them one after the other"
        )
    return _titled(list(zip(titles, inputs, strict=True)), out)


def _titled(inputs: list[tuple[str, Location]], out: Path | None) -> Iterator[Source]:
    for title, place in inputs:
        for source in _listed(place, out):
            where = source.file or f"{source.folder}/{source.name}"
            yield source._replace(name=f"{title}/{source.name}", file=where)


def _title(place: Location) -> str:
    base = place.without_query if isinstance(place, Url) else str(place)
    base = _glob_base(base) if _is_glob(place) else base
    return base.rstrip("/").rsplit("/", 1)[-1]


def _is_special(place: Path) -> bool:
    return _is_glob(place) or place.name.lower().endswith(
        (*ARCHIVES, *COMPRESSED, *LISTS, *_TABLES)
    )


def _is_glob(place: Location) -> bool:
    if not _MAGIC.intersection(str(place)):
        return False
    # A file may be called so; a question mark in the web begins a query.
    return not (place.exists() if isinstance(place, Path) else place.startswith("http"))


def _listed(place: Location, out: Path | None) -> Iterator[Source]:
    if _is_glob(place):
        return _glob(place)
    suffix = os.path.splitext(place.name)[1].lower()  # noqa: PTH122 - of a URL, too
    if place.name.lower().endswith(COMPRESSED):
        raise InputError(
            f"{printable(str(place))}: images in a compressed file cannot be read one by one: "
            f"{UNPACK}"
        )
    if suffix in _TABLES:
        raise InputError(
            f"{printable(str(place))}: neither an image nor a list in a form that is read: save it "
            f"as one of {', '.join(LISTS)}, or give the images"
        )
    if suffix in ARCHIVES:
        return members(str(_home(place)), place.name, place)
    if suffix in LISTS:
        return list_entries(place)
    if isinstance(place, Path):
        return list_inputs([place], out)
    return _below(place)


def _home(place: Location) -> Location:
    return place.parent if isinstance(place, Url) else place.absolute().parent


def _below(url: Url) -> Iterator[Source]:
    """The images below a URL, or the one that it is."""
    files, path = filesystem(url)
    if url.startswith("http"):
        return iter([Source(str(url.parent), url.name, file=str(url))])
    try:
        about = with_retries(lambda: files.info(path))
    except FileNotFoundError:
        raise InputError(f"{printable(url)}: nothing is there: give images that exist") from None
    except OSError as error:
        raise unreadable(url, error) from error
    if about["type"] == "file":
        return iter([Source(str(url.parent), url.name, about["size"])])
    keys: dict[str, str] = {}  # of those that no file can have
    others = OtherKinds()

    def is_wanted(name: str) -> bool:
        if name == MARKER or has_image_suffix(name):
            return True
        others.see(name)
        return False

    def named() -> Iterator[tuple[str, int]]:
        for key, name, size in walk_images(files, path, is_wanted):
            if key != name:
                keys[name] = key
            yield name, size
        others.log(str(url))

    def read(name: str) -> bytes:
        content: bytes = with_retries(lambda: files.cat_file(f"{path}/{keys.get(name, name)}"))
        return content

    return (
        Source(str(url), name, size, f"{url}/{keys[name]}" if name in keys else None)
        for name, size in without_own_objects(named(), read, str(url))
    )


def _glob_base(pattern: str) -> str:
    """The folder above the first part with a wildcard in it."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if _MAGIC.intersection(part))
    return "/".join(parts[:first])


def _glob(pattern: Location) -> Iterator[Source]:
    base = _glob_base(str(pattern))
    if isinstance(pattern, Url):
        found = _found_far(pattern, base)
    else:
        base = str(Path(base or ("/" if str(pattern).startswith("/") else ".")).absolute())
        paths = glob.iglob(str(pattern.absolute()), recursive=True)  # noqa: PTH207 - any depth
        found = ((os.path.relpath(path, base), None) for path in paths if Path(path).is_file())
    entries = sorted(found, key=lambda entry: os.fsencode(entry[0]))
    is_far = isinstance(pattern, Url)
    taken = {key for key, _ in entries} if is_far else set()
    for key, size in entries:
        name = without_empty_parts(key, taken) if is_far else key
        taken |= {name} - {key}
        if name.lower().endswith(ARCHIVES):
            place = Url(f"{base}/{key}") if is_far else Path(base, key)
            yield from members(base, name, place)
        elif has_image_suffix(name.rsplit("/", 1)[-1]):
            yield Source(base, name, size, None if key == name else f"{base}/{key}")


def _found_far(pattern: Url, base: str) -> Iterator[tuple[str, int | None]]:
    files, path = filesystem(pattern)
    _, home = filesystem(Url(base))
    try:
        found = with_retries(lambda: files.glob(path, detail=True))
    except OSError as error:
        raise unreadable(pattern, error) from error
    for name, about in found.items():
        if about["type"] == "file":
            yield name.removeprefix(home).removeprefix("/"), about["size"]


def image_lister(
    inputs: list[str], out: str, limit: int | None = None
) -> Callable[[], Iterator[Source]]:
    """Return a function that lists the images of inputs, paths or URLs.

    Args:
        inputs: As the user wrote them.
        out: The results' folder or URL, which is not searched for images.
        limit: List only the first so many.

    Raises:
        InputError: An input's scheme is not supported.
    """
    places = [located(text) for text in inputs]
    return lambda: islice(list_images(places, located(out)), limit)
