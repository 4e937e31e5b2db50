"""YAML as it is read here: plain values only, no objects, no aliases."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few lines of aliases stand for more values than memory holds.
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read: write it out")
        return super().compose_node(parent, index)


def parse_yaml(text: str | bytes) -> Any:
    """Return the value that a text stands for; raises ValueError, one line, if it is no YAML."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except Exception as error:  # tags on values that do not fit them raise anything
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
