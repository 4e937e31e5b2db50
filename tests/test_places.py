from __future__ import annotations

from pathlib import Path

import pytest

from everything import places
from everything.errors import InputError
from everything.places import Url, located, patiently


def test_paths_and_urls() -> None:
    assert located("a/b") == Path("a/b")
    assert located("file:///a/b") == Path("/a/b")
    bucket = located("s3://bucket/photos/")
    assert isinstance(bucket, Url)
    assert bucket == "s3://bucket/photos"
    assert (bucket / "a.jpg", bucket.name, bucket.parent) == (
        "s3://bucket/photos/a.jpg", "photos", "s3://bucket",
    )  # fmt: skip


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "ssh://a", "simplecache::s3://a/b", "zip://a.jpg::s3://b/c.zip", "sh://a"]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="not a place for photos or results"):
        located(url)


def test_a_network_s_errors_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_FIRST_WAIT", 0.001)
    answers: list[object] = [RuntimeError("slow down"), TimeoutError(), 7]

    def attempt() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(attempt) == 7
    answers += [TimeoutError(f"{n}") for n in range(9)]
    with pytest.raises(OSError, match="TimeoutError: 3"):
        patiently(attempt)
    answers[:] = [PermissionError("no"), 1]
    with pytest.raises(PermissionError):
        patiently(attempt)
    assert answers == [1]
