"""The other end of the data-plane process's socket."""

import socket
from typing import Any, Self

from dataplane import server


class ClientError(Exception):
    """Whoever asked must act: no such instance, not allowed, or the request can't be met."""


class Client:
    """A connection to an instance; calls are answered in turn. One thread at a time."""

    def __init__(self, instance: str) -> None:
        path = server.socket_path(instance)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            if isinstance(error, PermissionError):
                raise ClientError(f"{path}: only root may ask: run this as root") from None
            raise ClientError(f"no isolane runs as instance {instance}: {path}: {error.strerror}") from None

    def call(self, method: str, **params: object) -> Any:
        """The result of a method. ClientError: the process's own words, or that it went away."""
        try:
            server.send_message(self._socket, {"method": method, "params": params})
            reply = server.receive_message(self._socket)
        except (OSError, EOFError) as error:
            raise ClientError(f"{method}: the data plane closed the connection: {error}") from None
        if "error" in reply:
            raise ClientError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
