"""Safe YAML: plain values only, no objects, no aliases."""

from __future__ import annotations

from typing import Any

import yaml

from everything.errors import reason_of


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few lines of nested aliases can expand to more values than fit into memory.
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported: write the value out")
        return super().compose_node(parent, index)


def parse_yaml(text: str | bytes) -> Any:
    """Parse YAML.

    Raises:
        ValueError: The text is not valid YAML; the message has one line.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except Exception as error:  # tags on values that do not fit them raise anything
        raise ValueError(reason_of(error)) from error
