"""Segment everything, in bulk: the mask of every object in every image.

One image, with the bundled model or any SAM variant, and any sampler:

    import everything

    segments = everything.segment("cat.jpg")  # or an array, a PIL image, several of them
    annotations = segments.to_sa1b()
    pipeline = everything.load("mobilesam", "object-aware")
    segments = everything.segment("cat.jpg", pipeline)

A folder of images, with one SA-1B annotation file for each, resumable:

    labels = everything.label("photos", out="labels")  # and later: read_labels("labels")
    for segments in labels:
        print(segments.name, len(segments))

`list_variants()` and `list_samplers()` return what there is to choose from. `write_report`,
`evaluate_labels`, `export_labels` and `import_labels` are the commands of the same names in Python.
What follows is imported when it is first used, since PyTorch takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import version

    from everything.api import (
        evaluate_labels,
        export_labels,
        import_labels,
        label,
        list_samplers,
        list_variants,
        read_labels,
        write_report,
    )
    from everything.config import Recipe
    from everything.core.prompts import Prompts
    from everything.core.protocols import Model
    from everything.errors import EverythingError
    from everything.jobs.labelled_folder import Labels
    from everything.masks.masks import Masks
    from everything.masks.segments import Segments
    from everything.pipeline.pipeline import Pipeline
    from everything.pipeline.scene import Sampler, Scene
    from everything.recipes.build import load, segment

    __version__ = version("segevery")

__all__ = [
    "EverythingError",
    "Labels",
    "Masks",
    "Model",
    "Pipeline",
    "Prompts",
    "Recipe",
    "Sampler",
    "Scene",
    "Segments",
    "__version__",
    "evaluate_labels",
    "export_labels",
    "import_labels",
    "label",
    "list_samplers",
    "list_variants",
    "load",
    "read_labels",
    "segment",
    "write_report",
]

_MODULES = {
    "EverythingError": "everything.errors",
    "Labels": "everything.jobs.labelled_folder",
    "Masks": "everything.masks.masks",
    "Model": "everything.core.protocols",
    "Pipeline": "everything.pipeline.pipeline",
    "Prompts": "everything.core.prompts",
    "Recipe": "everything.config",
    "Sampler": "everything.pipeline.scene",
    "Scene": "everything.pipeline.scene",
    "Segments": "everything.masks.segments",
    "evaluate_labels": "everything.api",
    "export_labels": "everything.api",
    "import_labels": "everything.api",
    "label": "everything.api",
    "list_samplers": "everything.api",
    "list_variants": "everything.api",
    "load": "everything.recipes.build",
    "read_labels": "everything.api",
    "segment": "everything.recipes.build",
    "write_report": "everything.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("segevery")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
