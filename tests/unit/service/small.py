"""A store that takes only a few keys at once, and objects for it."""

from collections.abc import Collection, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from policy.errors import UnavailableError
from policy.kinds import documents, keys
from policy.kinds.model import (
    AddressRange,
    Host,
    Intent,
    LogicalNetwork,
    NetworkSite,
    Object,
    Port,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
)
from policy.store.contract import Limits
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of

PREFIXES = (ip_network("10.0.0.0/24"), ip_network("fd77::/64"))
FABRIC: list[Object] = [
    LogicalNetwork("fabric"),
    NetworkSite(
        "rack",
        "fabric",
        (
            SiteSubnet(PREFIXES[0], AddressRange(ip_address("10.0.0.10"), ip_address("10.0.0.250"))),
            SiteSubnet(PREFIXES[1], AddressRange(ip_address("fd77::10"), ip_address("fd77::250"))),
        ),
    ),
    *(Host(f"h{number}", "rack", (), Underlay("u1")) for number in range(3)),
]


class Small(MemoryStore):
    """As a store of many machines: few keys a commit. It breaks down before a commit if that is asked for."""

    left = 1_000_000

    def limits(self) -> Limits:
        return Limits(ops=60, size=20_000, value=10_000)

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = (), **words: Any) -> int:
        if not self.left:
            raise UnavailableError("gone")
        self.left -= 1
        return super().commit(puts, deletes, **words)


def networks(count: int, ports: int) -> list[Object]:
    found: list[Object] = []
    for number in range(count):
        subnet = ip_network(f"10.{number}.0.0/24")
        found += [
            VMNetwork("blue", f"net{number}", "fabric"),
            VMSubnet("blue", f"s{number}", f"net{number}", (subnet,), translation=Translation.REWRITE),
            *(Port("blue", f"p{number}-{each}", f"s{number}", f"h{each % 3}") for each in range(ports)),
        ]
    return found


def stated_in(store: MemoryStore, at: int | None = None) -> Intent:
    return documents.intent_from(snapshot_of(store, keys.INTENT, at=at).items)
