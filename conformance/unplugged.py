"""A machine without a network: connections are refused, and it is noted where they were to go."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


@contextmanager
def unplugged() -> Iterator[list[str]]:
    """Refuse every connection to a host, this one included, and yield the list of what was asked for."""
    asked: list[str] = []
    connect = socket.socket.connect

    def refuse(where: object) -> OSError:
        asked.append(str(where))
        return OSError(f"no network here: {where}")

    def connecting(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            raise refuse(address[0])
        connect(self, address)

    def resolving(host: Any, *_: Any, **__: Any) -> Any:
        raise refuse(host)

    with mock.patch.object(socket.socket, "connect", connecting), mock.patch.object(socket, "getaddrinfo", resolving):
        yield asked
