"""The data plane as a device manager sees it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from dataplane.binding.core import PortConfig
from dataplane.binding.handover import Handover
from dataplane.process.client import ClientError
from dataplane.process.protocol import Hello, Kind, NeighbourView, StrangerView


class Switch(Protocol):
    """A data plane as far as ports go: dataplane.process.client.Client. Its errors: ClientError."""

    def hello(self) -> Hello: ...
    def memory(self) -> int: ...
    def attach(
        self,
        port: int,
        config: PortConfig,
        held: Mapping[str, int] | None = None,
        note: object = None,
        *,
        replace: bool = False,
    ) -> None: ...
    def take(self, port: int) -> Handover: ...
    def spin(self, port: int, on: bool) -> None: ...
    def detach(self, port: int) -> None: ...
    def neighbours(self) -> list[NeighbourView]: ...
    def strangers(self) -> list[StrangerView]: ...


@contextmanager
def refusal_ignored() -> Iterator[None]:
    """Of what somebody else has detached already."""
    try:
        yield
    except ClientError as error:
        if error.kind != Kind.REQUEST:
            raise
