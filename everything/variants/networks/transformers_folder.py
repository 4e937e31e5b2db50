"""Networks of transformers from a folder: settings, image processor, and whether weights fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everything.core.file_names import printable
from everything.errors import ConfigError, WeightsError, reason_of
from everything.variants.checkpoints.model_folder import CONFIG, SETTINGS, config_of

_log = logging.getLogger(__name__)


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Keep transformers quiet while a folder's network is built, and make its errors one line.

    Raises:
        WeightsError: The folder's settings are not of a network that transformers can build.
        ConfigError: A package is not installed.
    """
    if config_of(folder).get("quantization_config"):
        raise WeightsError(f"{printable(folder / CONFIG)}: quantized: give the original weights")
    try:
        with _quiet():
            yield
    except ImportError as error:
        raise ConfigError(
            f"{printable(folder)}: needs a package ({reason_of(error)[:200]}): pip install "
            f"transformers timm"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{printable(folder)}: not a model that transformers can build "
            f"({reason_of(error)[:200]}): give a folder with all its files"
        ) from error


def check_loaded(left: dict[str, Any], folder: Path) -> None:
    """Refuse a network of which a part has no weights; say which weights are not used.

    Args:
        left: The loading info of `from_pretrained`.
        folder: For messages.

    Raises:
        WeightsError: Tensors are missing or of another shape.
    """
    missing = sorted(map(str, [*left["missing_keys"], *left["mismatched_keys"]]))
    if missing:
        raise WeightsError(
            f"{printable(folder)}: {len(missing)} tensors are missing or of another shape "
            f"({missing[0]} …): give the weights that its {CONFIG} describes"
        )
    unused = sorted(left["unexpected_keys"])
    if unused:
        _log.warning(
            "%s: %d tensors are not used (%s …)", printable(folder), len(unused), unused[0]
        )


def image_processor(folder: Path, config: Any, side: int) -> Any:
    """Return the folder's image processor; where it has none, that of the network's class.

    Args:
        folder: The folder.
        config: The network's settings.
        side: Of the network's input, px.
    """
    from transformers.models.auto import image_processing_auto

    auto: Any = image_processing_auto

    if any((folder / name).is_file() for name in SETTINGS[1:]):
        return auto.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    kind = auto.IMAGE_PROCESSOR_MAPPING[type(config)]["torchvision"]
    square = {"height": side, "width": side}
    padded = "longest_edge" in kind.size
    given = {"size": {"longest_edge": side}, "pad_size": square} if padded else {"size": square}
    _log.warning(
        "%s: has no %s: images are prepared with the defaults of %s",
        printable(folder),
        SETTINGS[1],
        kind.__name__,
    )
    return kind(**given)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the console: what matters is said here."""
    from transformers.utils import logging as console

    talk: Any = console
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()
