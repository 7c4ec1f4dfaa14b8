"""What goes with a port when it changes hands: its configuration, its descriptors, others to keep alive."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from dataplane.binding._ffi import lib
from dataplane.binding.core import Offload, PortConfig, PortKind

MAX_QUEUES: int = lib.DP_MAX_QUEUES
MAX_NAME: int = lib.DP_NAME_LEN
"""Bytes, with the one that ends it."""

OffloadName = Literal["csum", "tso4", "tso6", "nvgre", "uso", "xdp_sg"]
"""What an agent may say of a port, as `core.Offload` has it."""
OFFLOADS: tuple[str, ...] = get_args(OffloadName)


class _Config(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME - 1, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
    kind: Literal["tap", "packet", "xdp"]
    mac: Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\Z")]
    mtu: Annotated[int, Meta(ge=68, le=65535)]
    offloads: list[OffloadName]
    xsks: Annotated[int, Meta(ge=0, le=MAX_QUEUES)] = 0
    spins: bool = True

    def with_queues(self, fds: Sequence[int]) -> PortConfig:
        kind, offloads = PortKind[self.kind.upper()], _offloads(self.offloads)
        given = (kind, _mac(self.mac), self.mtu, offloads, tuple(fds), self.xsks, self.spins)
        return PortConfig(self.name, *given)


class _Document(msgspec.Struct):
    """What encode() says."""

    config: _Config
    held: list[str] = []
    note: Any = None


class Handover(NamedTuple):
    """A port's configuration with its queues' descriptors, further descriptors by name, and a note: anything
    that JSON can say, kept for whoever opened the device. A note's `device` is the name that operators see.
    """

    config: PortConfig
    held: Mapping[str, int]
    note: Any

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors, those of queues first."""
        return (*self.config.fds, *self.held.values())

    @property
    def device(self) -> str | None:
        return self.noted("device")

    def noted(self, key: str) -> str | None:
        """A text in the note."""
        text = self.note.get(key) if isinstance(self.note, dict) else None
        return text if isinstance(text, str) else None

    def without_xsks(self) -> "Handover":
        """For a later process: it goes on by AF_PACKET, until AF_XDP sockets are made anew for it."""
        config = self.config
        if not config.xsks:
            return self
        fds = config.fds[: config.queues]
        note = {
            **(self.note if isinstance(self.note, dict) else {}),
            "reason": "its AF_XDP sockets ended with the data plane that had them",
        }
        left = replace(config, kind=PortKind.PACKET, offloads=Offload.NONE, fds=fds, xsks=0)
        return Handover(left, self.held, note)

    def encode(self) -> dict[str, Any]:
        """All but the descriptors, as JSON can say it."""
        return {"config": config_document(self.config), "held": list(self.held), "note": self.note}

    @classmethod
    def decode(cls, document: object, fds: Sequence[int]) -> "Handover":
        """The inverse of encode(), with the descriptors in the order of `fds`. ValueError: in words."""
        try:
            said = msgspec.convert(document, _Document)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if len(set(said.held)) < len(said.held):
            raise ValueError("held: a name stands twice")
        ready = len(fds) - len(said.held)
        queues = ready - said.config.xsks
        if queues < 0:
            raise ValueError(f"held: {len(said.held)} names for {len(fds)} descriptors")
        if queues > MAX_QUEUES:
            raise ValueError(f"{queues} queues, more than {MAX_QUEUES}")
        if len(said.config.name.encode()) >= MAX_NAME:
            raise ValueError(f"config.name: 1 to {MAX_NAME - 1} bytes, not {said.config.name!r}")
        return cls(
            said.config.with_queues(fds[:ready]),
            dict(zip(said.held, fds[ready:], strict=True)),
            said.note,
        )


def config_document(config: PortConfig) -> dict[str, Any]:
    """A port's configuration without its descriptors."""
    return {
        "name": config.name,
        "kind": config.kind.name.lower(),
        "mac": config.mac.hex(":"),
        "mtu": config.mtu,
        "offloads": [
            offload.name.lower() for offload in Offload if offload in config.offloads and offload.name
        ],
        "xsks": config.xsks,
        "spins": config.spins,
    }


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _offloads(names: Sequence[str]) -> Offload:
    return reduce(or_, (Offload[name.upper()] for name in names), Offload.NONE)
