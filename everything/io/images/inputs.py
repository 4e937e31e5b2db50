"""What people call an image in Python: paths, URLs, PIL images, arrays and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from everything.errors import InputError
from everything.io.images.colour import to_rgb
from everything.io.images.decode import DecodedImage, Limits, decode_image
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_images
from everything.io.storage.locations import located

ImageInput = str | PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
"""One image; `pixels_of` says in which forms."""

_KINDS = "a path, a URL, a PIL image, a numpy array or a torch tensor"
_CHANNELS = (1, 3, 4)
_AS_UINT8 = {"bool": "255 * image.astype('uint8')", "uint16": "(image // 257).astype('uint8')"}


def is_one_image(value: Any) -> TypeGuard[ImageInput]:
    """Whether a value is one image, not several; an array with a fourth axis is several."""
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim < 4
    return isinstance(value, str | PathLike | Image.Image)


def each_image(values: Any) -> Iterator[ImageInput]:
    """Yield the images of an iterable of them.

    Raises:
        TypeError: It is no iterable.
    """
    if isinstance(values, bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"an image is {_KINDS}, not {type(values).__name__}")
    return iter(values)


def name_of(image: ImageInput) -> str:
    """Return the file name of a path or URL, "" of anything else."""
    if not isinstance(image, str | PathLike):
        return ""
    return fspath(image).partition("?")[0].rstrip("/").rpartition("/")[2]


def pixels_of(image: ImageInput) -> NDArray[np.uint8]:
    """Return an image as pixels.

    A file or URL is read as `label` reads it: upright, in sRGB, transparent parts white. A PIL
    image, array or tensor keeps its orientation, so that the masks fit its pixels.

    Args:
        image: A path or URL of an image file; a PIL image of any mode; an array uint8 (H, W),
            (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; a tensor uint8 of (H, W) or, as torchvision
            has it, (C, H, W) with 1, 3 or 4 channels. Arrays and tensors may also be of floating
            point from 0 to 1.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        TypeError: It is of another kind.
        ValueError: It is an array or tensor of another shape, dtype or range.
        EverythingError: The file cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if isinstance(image, Tensor):
        return _of_tensor(image)
    if isinstance(image, Image.Image):
        return np.array(to_rgb(image, []))
    if isinstance(image, str | PathLike):
        return _read(fspath(image)).pixels
    raise TypeError(f"an image is {_KINDS}, not {type(image).__name__}")


def _read(place: str) -> DecodedImage:
    location = located(place)
    if isinstance(location, Path) and location.is_dir():
        raise InputError(f"{place}: a folder: use label() for folders, or give its images")
    source = next(list_images([location]), None)
    if source is None:
        raise InputError(f"{place}: no image: check the path")
    return decode_image(read_source(source, Limits()), source.printable, Limits())


def _of_array(image: NDArray[Any]) -> NDArray[np.uint8]:
    if np.issubdtype(image.dtype, np.floating):
        _check_range(image, "an array")
        image = (image * 255).round().astype(np.uint8)
    if image.dtype != np.uint8:
        example = _AS_UINT8.get(str(image.dtype), "image.astype('uint8')")
        raise ValueError(
            f"an array of {image.dtype}: give uint8 from 0 to 255, for example {example}"
        )
    if image.ndim == 3 and image.shape[2] == 3:
        return image
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.ndim == 3 and image.shape[2] == 4:
        return np.array(to_rgb(Image.fromarray(image), [])) if image.size else image[..., :3]
    hint = ""
    if image.ndim == 3 and image.shape[0] in _CHANNELS:
        hint = ": channels come last, image.transpose(1, 2, 0)"
    raise ValueError(f"an array of shape {image.shape} is not (H, W), (H, W, 3) or (H, W, 4){hint}")


def _check_range(pixels: NDArray[Any] | Tensor, kind: str) -> None:
    """Check that pixels of floating point, of a kind that is named, are from 0 to 1."""
    if 0 not in pixels.shape and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"{kind} of floating point must be from 0 to 1, not normalised")


def _of_tensor(image: Tensor) -> NDArray[np.uint8]:
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        _check_range(pixels, "a tensor")
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    if pixels.ndim == 3:
        if len(pixels) not in _CHANNELS:
            raise ValueError(f"a tensor of shape {tuple(image.shape)} is not (C, H, W) or (H, W)")
        pixels = pixels.permute(1, 2, 0)
    return _of_array(np.ascontiguousarray(pixels.numpy()))
