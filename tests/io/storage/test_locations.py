from __future__ import annotations

from pathlib import Path

import pytest

from everything.errors import InputError
from everything.io.storage import locations
from everything.io.storage.locations import Url, located, with_retries


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
    with pytest.raises(InputError, match="images and results cannot be stored there"):
        located(url)


@pytest.mark.parametrize("url", ["s3://", "gs:///", "http://"])
def test_urls_without_a_bucket_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="no bucket or host in it: give"):
        located(url)


def test_a_network_s_errors_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_FIRST_WAIT", 0.001)
    answers: list[object] = [RuntimeError("slow down"), TimeoutError(), 7]

    def attempt() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries(attempt) == 7
    answers += [TimeoutError(f"{n}") for n in range(9)]
    with pytest.raises(OSError, match="TimeoutError: 6"):
        with_retries(attempt)
    answers[:] = [PermissionError("no"), 1]
    with pytest.raises(PermissionError):
        with_retries(attempt)
    assert answers == [1]


def test_a_bad_minute_is_waited_out_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)

    def slow_down() -> None:
        raise RuntimeError("Please reduce\nyour request rate.")

    with pytest.raises(OSError, match="reduce your request rate"):
        with_retries(slow_down)
    assert 45 < sum(waits) < 62
    assert waits == sorted(waits)
    assert len(caplog.records) == len(waits) == 6
    assert "RuntimeError: Please reduce your request rate.: retrying in 1.0 s" in caplog.text


def test_what_was_never_asked_is_not_waited_for() -> None:
    class NoCredentialsError(Exception):
        pass

    def attempt() -> None:
        tries.append(1)
        raise NoCredentialsError("Unable to locate credentials")

    tries: list[int] = []
    with pytest.raises(OSError, match="Unable to locate credentials"):
        with_retries(attempt)
    assert len(tries) == 1
