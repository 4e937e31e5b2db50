"""Real images that come inside installed packages: the demo needs no network and no image here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from everything.errors import InputError
from everything.io.images.sources import Source

# Those that wheels contain: skimage.data would download the others.
_IMAGES = {
    "skimage": (
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/rocket.jpg",
        "data/motorcycle_left.png",
        "data/camera.png",
        "data/coins.png",
        "data/hubble_deep_field.jpg",
    ),
    "ultralytics": ("assets/bus.jpg", "assets/zidane.jpg"),
}


def demo_images() -> list[Source]:
    """Return the images that are there, named like `skimage/data/coffee.png`; imports none of the
    packages. Raises InputError if there is not one."""
    found = []
    for package, names in _IMAGES.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        home = Path(spec.origin).parent.parent
        sources = [Source(str(home), f"{package}/{name}") for name in names]
        found += [source for source in sources if source.path.is_file()]
    if not found:
        raise InputError("no demo images: neither scikit-image nor ultralytics is installed")
    return found
