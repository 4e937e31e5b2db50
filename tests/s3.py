"""A simulated S3 server on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from threading import Lock
from typing import Any

from everything.io.storage import locations

_KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def s3_server() -> Iterator[str]:
    """Start it and yield its address; this process and its children use it as S3 meanwhile."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    put, lock = S3Response.put_object, Lock()

    def put_object(self: Any) -> Any:
        with lock:  # S3 checks for an existing object and writes in one step
            return put(self)

    S3Response.put_object = put_object  # type: ignore[method-assign]
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    before = dict(os.environ)
    os.environ |= _KEYS | {"AWS_ENDPOINT_URL": address}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "AWS_CA_BUNDLE"):
        os.environ.pop(name, None)
    _forget()
    try:
        yield address
    finally:
        os.environ.clear()
        os.environ |= before
        _forget()
        server.stop()
        S3Response.put_object = put  # type: ignore[method-assign]


def _forget() -> None:
    """Drop cached connections, and the fork server, which keeps its environment."""
    locations._filesystem.cache_clear()
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
