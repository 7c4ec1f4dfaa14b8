"""What a host's agent says in the store of the intent there: written by agents, read by all others. Pure.

It is under the host's key for as long as the agent lives: without it there is no agent. Links of ports'
devices, of which there may be many, are under a key of their own: that the host has got to another revision
does not write them anew.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace

from policy.kinds import keys

APPLIED, FAILED = "applied", "failed"

UP, DOWN, NO_CARRIER, ABSENT, FAILING = "up", "down", "no carrier", "absent", "failing"
WAITING, UNKNOWN = "waiting", "unknown"
"""Of a port's device: its link. WAITING: for its VM, whose hypervisor makes the device or opens it. FAILING:
it can't be had, or is not as it should be; the problems say why.
"""

_LINKS = frozenset((DOWN, NO_CARRIER, ABSENT, FAILING, WAITING, UNKNOWN))

LINKS_BYTES = 1 << 18
"""More of links is not told: of some 6,000 ports that are not up, or 1,700 with the longest names."""

NO_AGENT = "no agent is there"

OF_THE_HOST = "the host has problems of its own"


@dataclass(frozen=True, slots=True)
class HostState:
    """revision: up to which the agent has seen all. state: APPLIED, or FAILED for what the problems say.
    ports: those, TENANT/NAME, that each has one of the problems, which begins with `port TENANT/NAME:`; the
    others are the host's. generation, digest: of the data plane's tables. time: Unix seconds, when it was
    said. links: of those that are to have devices, where the link is not UP; None: nothing is said of any.
    unlisted: of how many more it is not UP.
    """

    revision: int
    state: str
    problems: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    generation: int = 0
    digest: str = ""
    time: float = 0.0
    links: Mapping[str, str] | None = None
    unlisted: int = 0

    def encode(self) -> bytes:
        """All but the links."""
        said = asdict(replace(self, links=None))
        del said["links"], said["unlisted"]
        return _dump(said)

    def encode_links(self) -> bytes | None:
        """As many as there is room for."""
        if self.links is None:
            return None
        told: dict[str, str] = {}
        room = LINKS_BYTES - len(_dump({"links": {}, "unlisted": len(self.links)}))
        for port, link in sorted(self.links.items()):
            room -= len(_dump({port: link})) - 1  # a comma for two brackets
            if room < 0:
                break
            told[port] = link
        return _dump({"links": told, "unlisted": self.unlisted + len(self.links) - len(told)})

    def has_applied(self, revision: int, ports: Collection[str] | None) -> bool:
        """ports: problems of others are passed over; None: of none."""
        return self.revision >= revision and (self.state == APPLIED or not self._concerns(ports))

    def has_failed(self, revision: int, ports: Collection[str] | None) -> bool:
        return self.revision >= revision and self.state == FAILED and self._concerns(ports)

    def _concerns(self, ports: Collection[str] | None) -> bool:
        """Whether one of the problems is the host's, or that of one of these ports."""
        of_host = len(self.problems) > len(self.ports)
        return ports is None or of_host or any(port in ports for port in self.ports)

    def link_of(self, port: str, revision: int) -> str | None:
        """Of one that is to have a device since the revision; None: nothing is said of it."""
        if self.links is None or self.revision < revision:
            return None
        return self.links.get(port, UNKNOWN if self.unlisted else UP)

    def problems_of(self, ports: Collection[str] | None) -> tuple[str, ...]:
        """The problems of these ports, and the host's; None: all."""
        others = set() if ports is None else set(self.ports) - set(ports)
        return tuple(text for text in self.problems if _port_of(text) not in others)

    def problems_of_ports(self, ports: Collection[str]) -> tuple[str, ...]:
        """For who may know of these ports alone: of the host no more than that it has some."""
        mine = tuple(text for text in self.problems if _port_of(text) in ports)
        others = len(self.problems) > len(self.ports) or not mine
        return (*mine, *([OF_THE_HOST] if others else []))


def decode(value: bytes) -> HostState:
    """All but the links. Of what can't be read: that it can't."""
    try:
        said = json.loads(value)
        return HostState(
            int(said["revision"]),
            str(said["state"]),
            tuple(map(str, said.get("problems", ()))),
            tuple(map(str, said.get("ports", ()))),
            int(said.get("generation", 0)),
            str(said.get("digest", "")),
            float(said.get("time", 0)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return HostState(0, FAILED, ("what its agent said can't be read",))


def with_links(state: HostState, value: bytes) -> HostState:
    """Of what can't be read nothing is known, and what is no word of ours is not known."""
    try:
        said = json.loads(value)
        links = {port: _word(link) for port, link in said["links"].items()}
        return replace(state, links=links, unlisted=int(said.get("unlisted", 0)))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return state


def _word(link: object) -> str:
    return link if isinstance(link, str) and link in _LINKS else UNKNOWN


def _dump(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


def read(items: Mapping[str, bytes]) -> dict[str, HostState]:
    """By host, of a store's items; those with other keys are passed over."""
    hosts = [key for key in items if key.startswith(keys.HOSTS)]
    states = {keys.host_name(key): decode(items[key]) for key in hosts}
    for key, value in items.items():
        if key.startswith(keys.LINKS) and (host := keys.links_host(key)) in states:
            states[host] = with_links(states[host], value)
    return states


def _port_of(problem: str) -> str:
    return problem.partition(":")[0].removeprefix("port ")
