"""What goes with a port when it changes hands: its configuration, its descriptors, others to keep alive."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dataplane._ffi import lib
from dataplane.core import Offload, PortConfig, PortKind

MAX_QUEUES: int = lib.DP_MAX_QUEUES
MAX_NAME: int = lib.DP_NAME_LEN
"""Bytes, with the one that ends it."""


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
        name = self.note.get("device") if isinstance(self.note, dict) else None
        return name if isinstance(name, str) else None

    def encode(self) -> dict[str, Any]:
        """All but the descriptors, as JSON can say it."""
        return {"config": config_document(self.config), "held": list(self.held), "note": self.note}

    @classmethod
    def decode(cls, document: Mapping[str, Any], fds: Sequence[int]) -> "Handover":
        """The inverse of encode(), with the descriptors in the order of `fds`. ValueError: in words."""
        held = document.get("held") or []
        if not isinstance(held, list) or not all(isinstance(name, str) for name in held):
            raise ValueError("held: not a list of names")
        if len(set(held)) < len(held):
            raise ValueError("held: a name stands twice")
        queues = len(fds) - len(held)
        if queues < 0:
            raise ValueError(f"held: {len(held)} names for {len(fds)} descriptors")
        if queues > MAX_QUEUES:
            raise ValueError(f"{queues} queues, more than {MAX_QUEUES}")
        config = _config(document.get("config"), fds[:queues])
        return cls(config, dict(zip(held, fds[queues:], strict=True)), document.get("note"))


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
    }


def _config(document: object, fds: Sequence[int]) -> PortConfig:
    match document:
        case {
            "name": str(name),
            "kind": str(kind),
            "mac": str(mac),
            "mtu": int(mtu),
            "offloads": list(offloads),
        }:
            if not 0 < len(name.encode()) < MAX_NAME or "\0" in name:
                raise ValueError(f"config.name: 1 to {MAX_NAME - 1} bytes, not {name!r}")
            if not 68 <= mtu <= 65535:
                raise ValueError(f"config.mtu: {mtu} is not in 68..65535")
            return PortConfig(name, _kind(kind), _mac(mac), mtu, _offloads(offloads), tuple(fds))
    raise ValueError("config: name, kind, mac, mtu and offloads are needed")


def _kind(name: str) -> PortKind:
    if name not in ("tap", "packet"):
        raise ValueError(f"config.kind: {name!r}, expected tap or packet")
    return PortKind[name.upper()]


def _mac(text: str) -> bytes:
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != 6:
        raise ValueError(f"config.mac: {text!r} is no MAC")
    return mac


def _offloads(names: Sequence[object]) -> Offload:
    known = {str(offload.name).lower(): offload for offload in Offload}
    found = Offload.NONE
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"config.offloads: {name!r}, expected {', '.join(known)}")
        found |= known[name]
    return found
