"""YAML is read as plain values."""

import pytest

from everything.core.safe_yaml import parse_yaml


def test_plain_values() -> None:
    assert parse_yaml("a: [1, 2.5, x]\nb: {c: null}") == {"a": [1, 2.5, "x"], "b": {"c": None}}
    assert parse_yaml(b"") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]",
        "&x a: *x",
        "- &x {y: 1}\n- {<<: *x}",
    ],
)
def test_aliases_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"aliases \(\*name\) are not supported"):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system [x]", "a: !!timestamp x", "a: [", "\x00", "[" * 20_000],
)
def test_what_is_no_plain_yaml_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
