"""The address of a Ray cluster, and whether one answers there.

Ray itself tries a wrong address for a quarter of an hour.
"""

from __future__ import annotations

import os
import socket
import time

from everything.errors import JobError

VARIABLE = "RAY_ADDRESS"
_PATIENCE, _PAUSE = 5.0, 0.5  # s
# The start of an HTTP/2 connection, as gRPC has it: the greeting and an empty frame of settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME, _KIND, _SETTINGS = 9, 3, 4  # length of a frame's header, place of its kind, that kind


def resolved_address(address: str | None) -> str | None:
    """Return the address that `ray.init` would use: the given one, else RAY_ADDRESS, else None."""
    return address or os.environ.get(VARIABLE) or None


def described_address(address: str | None) -> str:
    """Return what messages call an address, with the variable that it is from."""
    found = resolved_address(address)
    if found is None:
        return "this machine"
    return found if address else f"{found} ({VARIABLE})"


def address_to_join(address: str | None) -> str | None:
    """Return the address for `ray.init`, once a cluster is known to answer there.

    Without an address, Ray joins the cluster that was started on this machine last, and waits for a
    quarter of an hour for one that is gone: then a new one is started ("local").

    Raises:
        JobError: As for `check_address`.
    """
    check_address(address)
    found = resolved_address(address)
    if found is None:
        from ray._private.utils import read_ray_address

        last = read_ray_address()
        try:
            check_address(last)
        except JobError:
            return "local"
    return found


def check_address(address: str | None) -> None:
    """Check within seconds that a cluster answers at an address HOST:PORT or ray://HOST:PORT.

    Other addresses (None, "auto", "local") are of this machine and are left to Ray.

    Raises:
        JobError: Nothing answers there, or something that is not Ray.
    """
    host, _, port = (resolved_address(address) or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    deadline = time.monotonic() + _PATIENCE
    while (reason := _problem(host.strip("[]"), int(port))) is not None:
        if time.monotonic() + _PAUSE > deadline:
            raise JobError(
                f"Ray at {described_address(address)}: {reason}: correct the address, or start "
                "the cluster first"
            )
        time.sleep(_PAUSE)


def _problem(host: str, port: int) -> str | None:
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return None  # what is behind the encryption is not looked at
            connection.sendall(_GREETING)
            answer = connection.recv(_FRAME, socket.MSG_WAITALL)
    except (OSError, OverflowError, UnicodeError) as error:
        return (getattr(error, "strerror", None) or str(error) or "no answer").lower()
    is_grpc = len(answer) == _FRAME and answer[_KIND] == _SETTINGS
    return None if is_grpc else "something else than Ray answers"
