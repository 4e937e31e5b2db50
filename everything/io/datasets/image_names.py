"""Names of images as COCO files have them, and where those images are.

Tools write `./x.jpg`, `images\\x.jpg`, `../../upload/4/x.jpg`, `/home/someone/x.jpg`, URLs, and
umlauts in either of Unicode's forms.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

from everything.io.images.sources import has_image_suffix

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:/")
_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")
_COCO = "images.cocodataset.org"


class FoundImage(NamedTuple):
    """An image on disk.

    Attributes:
        folder: Its folder.
        name: Its name relative to the folder.
        is_guess: Whether only the last parts of its name in the COCO file fit.
    """

    folder: Path
    name: str
    is_guess: bool


def identity_of(image: Mapping[str, Any]) -> str:
    """Return what tells an image from the others of a file: its name or URL, without the query.

    Args:
        image: A record of `images`: `file_name`, or `coco_url`, which is all that LVIS has.

    Raises:
        ValueError: The record has neither.
    """
    for key in ("file_name", "coco_url", "flickr_url"):
        if isinstance(image.get(key), str | int) and str(image[key]).strip():
            return _without_query(str(image[key]))
    raise ValueError("it has no file_name")


def _without_query(name: str) -> str:
    """Keep what names the image; a query may hold secrets."""
    path, _, query = name.partition("?")
    # Label Studio's local files: /data/local-files/?d=folder/x.jpg
    if path.endswith("/") and (local := parse_qs(query).get("d", [""])[0]):
        return local
    if _SCHEME.match(name):
        parts = urlsplit(name)
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    return path if "=" in query and has_image_suffix(path.rpartition("/")[2]) else name


def image_name(identity: str) -> str:
    """Return a name as a relative path with "/" that does not lead out of its folder.

    Scheme, host, drive, root and leading ".." are dropped; the rest is in Unicode's form NFC. The
    name is empty if nothing remains.
    """
    name = identity
    if _SCHEME.match(name):
        parts = urlsplit(name)
        name = unquote(parts.path)
        if parts.hostname == _COCO:
            name = "/".join(name.rsplit("/", 2)[-2:])
    name = _DRIVE.sub("", name, count=1).replace("\\", "/")
    name = posixpath.normpath("/" + name).lstrip("/")
    return normalize("NFC", name)


def same_name(identity: str) -> str:
    """Return a text that is equal for two spellings of one name or URL in a COCO file."""
    if _SCHEME.match(identity):
        return identity
    return normalize("NFC", posixpath.normpath(identity.replace("\\", "/")))


def is_of_macos(name: str) -> bool:
    """Tell whether a file was made by macOS beside another, `._sa_1.json` beside `sa_1.json`."""
    return name.rsplit("/", 1)[-1].startswith("._")


def last_parts(name: str) -> Iterator[str]:
    """Yield a name, then without its first part, then without its first two, and so on."""
    parts = name.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


class ImageFinder:
    """Finds the images of a COCO file in the folders where tools put them.

    Args:
        file: The COCO file.
        images: The folder of the images, if the user says so; then they are in no other.
    """

    def __init__(self, file: Path, images: Path | None = None) -> None:
        home = file.absolute().parent
        above = home.parent
        near = (home / "images", home, above / "images" / "default", above, above / "images")
        self._folders = [images.absolute()] if images else list(near)

    def find(self, identity: str) -> FoundImage | None:
        """Return where an image is: by its whole name, else by its last parts.

        Args:
            identity: As from `identity_of`.
        """
        forms = list(dict.fromkeys([*_exact(identity), *_forms(image_name(identity))]))
        for dropped in range(max(form.count("/") for form in forms) + 1):
            names = [form.split("/", dropped)[-1] for form in forms]
            for folder in self._folders:
                for name in names:
                    if _is_file(folder, name):
                        # The next image is likeliest in the same folder.
                        self._folders.remove(folder)
                        self._folders.insert(0, folder)
                        return FoundImage(folder, name, dropped > 0)
        return None


def _is_file(folder: Path, name: str) -> bool:
    try:
        return bool(name) and (folder / name).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _exact(identity: str) -> Iterator[str]:
    """The name itself, if it is a relative path: a file may have a backslash or % in its name."""
    parts = identity.split("/")
    if not _SCHEME.match(identity) and {"", ".", ".."}.isdisjoint(parts):
        yield identity


def _forms(name: str) -> Iterator[str]:
    yield name
    if name.strip() != name:
        yield name.strip()
    if "%" in name:
        yield image_name(unquote(name))
    if not name.isascii():
        yield normalize("NFD", name)
