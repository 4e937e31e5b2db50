"""The JSON document with the result of one image."""

from __future__ import annotations

import json
from typing import Any

Document = dict[str, Any]
_IMAGE_KEYS = {"image_id", "width", "height", "file_name"}


def read_document(content: bytes) -> Document | None:
    """Return an image's result from the content of its file, or None if it is incomplete."""
    try:
        document = json.loads(content)
        complete = (
            document["image"].keys() >= _IMAGE_KEYS
            and isinstance(document["annotations"], list)
            and isinstance(document["recipe"], dict)
            and isinstance(document["timing"], dict)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return document if complete else None
