"""Valid documents made invalid, for hypothesis: trees with odd values, texts with changed bytes."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

# What writers of JSON and YAML leave, by mistake or to harm.
ODD: list[Any] = [
    None, True, 0, -1, 1.5, 2**31, 2**63, -(2**63) - 1, 10**400, 1e400, -1e400, float("nan"), "",
    "\0", "../x", "/etc/passwd", "a\nb", "\ud800", "\udcff", "x" * 5000, "١", [], {}, [[]],
    [None], {"": None}, {"a": {"a": {}}}, [[[[[[[[1]]]]]]]], [1e400], ["\ud800"], [-1] * 50,
]  # fmt: skip


@st.composite
def mutated_trees(draw: st.DrawFn, tree: Any) -> Any:
    """A tree of dicts and lists with up to three nodes replaced, removed or doubled."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(tree)
        if not places:
            break
        node, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if action == "replace":
            node[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif action == "remove":
            del node[key]
        elif isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        else:
            node[draw(st.sampled_from(["unknown", "name", "0"]))] = copy.deepcopy(node[key])
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every node below the root, as what holds it and where; not more than some hundred."""
    found, pending = [], [tree]
    while pending and len(found) < 300:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                pending.append(node[key])
    return found


def as_json(tree: Any) -> bytes:
    """The tree as Python's own writer spells it, NaN and lone surrogates included."""
    return json.dumps(tree).encode("ascii")


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Content with some bytes changed, a part missing, doubled, or its end cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from([1, 1, 2, 8, 64]))
        action = draw(st.sampled_from(["change", "remove", "double", "cut", "insert"]))
        if action == "change":
            data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif action == "remove":
            del data[at : at + length]
        elif action == "double":
            data[at:at] = data[at : at + length]
        elif action == "cut":
            del data[at:]
        else:
            data[at:at] = draw(
                st.sampled_from([b"\0", b"\xff\xfe", b"[" * 9999, b"9" * 5000, b'"'])
            )
    return bytes(data)
