"""Models of the Hugging Face Hub: one revision, in the Hub's own cache, safetensors only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from everything.errors import ConfigError, WeightsError, reason_of
from everything.variants.checkpoints.model_folder import (
    CONFIG,
    INDEX,
    SETTINGS,
    SINGLE,
    TOKENIZER,
)
from everything.variants.checkpoints.weights import Weights

SITE = "https://huggingface.co"
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)(@(?P<revision>[A-Za-z0-9_./-]+))?")
_FILES = (*SETTINGS, *TOKENIZER, SINGLE, INDEX, "model-*-of-*.safetensors")


@dataclass(frozen=True)
class HubWeights(Weights):
    """The weights and settings of a model on the Hub; its `path` is a folder.

    `HF_HUB_OFFLINE` and `HF_HOME` count, and the token of `hf auth login`.

    Args:
        repo: ORG/NAME.
        revision: A branch, tag or commit.
        terms: What must be done before it can be downloaded; "" if nothing.
        own_copy: How a downloaded copy is given instead.
    """

    repo: str = ""
    revision: str = "main"
    terms: str = ""
    own_copy: str = "--variant hf:/FOLDER"

    @property
    def status(self) -> str:
        """How to get them, in a few words."""
        return f"downloaded at first use{f', {self.terms}' if self.terms else ''}"

    @property
    def cached(self) -> Path:
        """Where in the Hub's cache the folder's revisions are, or will be."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}"

    def config(self) -> Path:
        """Return its config.json, downloaded if need be; its folder is named after the commit.

        Raises:
            WeightsError: It is not available.
        """
        from huggingface_hub import hf_hub_download

        with _one_line(self):
            return Path(hf_hub_download(self.repo, CONFIG, revision=self.revision))

    def path(self) -> Path:
        """Return the folder with all files, downloaded if need be.

        Raises:
            WeightsError: It is not available.
        """
        from huggingface_hub import snapshot_download

        with _one_line(self):
            found = snapshot_download(
                self.repo, revision=self.revision, allow_patterns=list(_FILES)
            )
        return Path(found)


def hub_weights(name: str) -> HubWeights:
    """Return the weights that ORG/NAME or ORG/NAME@REVISION names; raises ConfigError."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigError(
            f"hf:{name}: write hf:ORG/NAME, hf:ORG/NAME@REVISION, or a folder as hf:/FOLDER or "
            f"hf:./FOLDER"
        )
    repo, revision = found["repo"], found["revision"] or "main"
    return HubWeights(f"{SITE}/{repo}", repo=repo, revision=revision)


@contextmanager
def _one_line(weights: HubWeights) -> Iterator[None]:
    """Turn the Hub's errors into one line that says what to do."""
    from huggingface_hub import errors

    page, revision = f"{SITE}/{weights.repo}", weights.revision
    try:
        yield
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{page}: gated: accept its licence on that page, then run `hf auth login`, or give a "
            f"downloaded copy: {weights.own_copy}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{page}: not found, or private: check the name, or run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{page}: has no revision {revision}: give another @REVISION") from error
    except errors.RemoteEntryNotFoundError as error:
        raise WeightsError(
            f"{page}: has no {CONFIG} at revision {revision}: only models in transformers' layout "
            f"can be used"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise WeightsError(
            f"{page}: revision {revision} is not in the cache, and cannot be fetched: check the "
            f"network and HF_HUB_OFFLINE, or give a downloaded copy: {weights.own_copy}"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{page}: cannot be fetched ({reason_of(error)[:200]})") from error
