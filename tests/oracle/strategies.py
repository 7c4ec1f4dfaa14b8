"""Hypothesis strategies: worlds, and frames that are almost right for them.

A frame is built by scapy from choices that matter to the packet path, then perhaps damaged. Frames are
drawn as (port, Frame); a Burst is a run of them into one port.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
)
from scapy.packet import Packet

from dataplane.binding.core import Frame, Gso, Offload
from dataplane.binding.tables import (
    ChangeSet,
    FloodRow,
    MoveRow,
    PaKind,
    PaRow,
    PortRow,
    PrefixRow,
    ProviderRouteRow,
    RecordRow,
    RouteRow,
    Section,
    SourceRow,
    SubnetRow,
    Translation,
    delete,
    pack_address,
    put,
)
from tests.oracle.crafted import Pick, tenant_frame, underlay_frame
from tests.oracle.rig import MILLISECOND, SECOND
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_DOWN,
    NO_POLICY_PORT,
    SELF,
    SHARED,
    World,
)

UNDERLAY = 0
BROADCAST = b"\xff" * 6
STRANGER = {4: ip_address("192.168.77.222"), 6: ip_address("fd77::222")}
TAKES_FOUR = Offload.CSUM | Offload.TSO4
TAKES_ALL = TAKES_FOUR | Offload.TSO6 | Offload.USO
TRANSLATIONS = [
    frozenset(pairs) for pairs in ((), ((0, 0), (0, 1)), ((0, 0),), ((0, 0), (0, 1), (1, 0), (1, 1)))
]


MOVES: tuple[frozenset[tuple[int, int]], ...] = (
    frozenset(),
    frozenset(),
    frozenset(((20, SELF), (30, 2), (LOCAL, 2))),
    frozenset(((20, 3), (30, SELF), (40, SELF), (GATEWAY_VM, 3))),
)
NO_LIMIT = (0, 0, 0, 0)
FLOODS = ((0, 0), (20, 1), (1_000_000, 1_000_000))
"""Packets to groups a second and at once."""
LIMITS = ((0, 0, 700, 4), (90_000, 1500, 0, 0), (30_001, 3000, 33, 3), (1000, 1, 1_000_000, 1000))
"""Bytes a second and at once, packets a second and at once."""


class Burst(NamedTuple):
    """ns: how long after the last one it comes."""

    port: int
    ns: int
    frames: list[Frame]


def worlds(**choices: st.SearchStrategy[Any]) -> st.SearchStrategy[World]:
    """choices: strategies for fields of World, instead of the usual ones."""
    usual: dict[str, st.SearchStrategy[Any]] = {
        "networks": st.integers(1, 3),
        "rewrite": st.sampled_from(TRANSLATIONS),
        "swapped": st.sampled_from((frozenset(), frozenset((1,)))),
        "pa_families": st.sampled_from((frozenset((4, 6)), frozenset((4,)), frozenset((6,)))),
        "outer": st.fixed_dictionaries({host: st.sampled_from((4, 6)) for host in (2, 3, 4)}),
        "wildcard": st.sampled_from((None, GATEWAY_VM, 20, 40)),
        "routes": st.booleans(),
        "default_route": st.booleans(),
        "resolved": st.sampled_from((True, True, False)),
        "flowid": st.sampled_from((True, True, True, False)),
        "offloads": st.sampled_from(
            (Offload.NONE, Offload.CSUM, TAKES_ALL, Offload.CSUM | Offload.TSO6, Offload.CSUM | Offload.USO)
        ),
        "mtu": st.sampled_from((1500, 576, 1280, 9000)),
        "underlay_offloads": st.sampled_from(
            (Offload.NONE, Offload.CSUM, TAKES_ALL, TAKES_ALL | Offload.NVGRE, Offload.NVGRE | TAKES_FOUR)
        ),
        "underlay_mtu": st.sampled_from((1600, 1500, 600, 9100)),
        "limit": st.sampled_from((*[NO_LIMIT] * 12, *LIMITS)),
        "moves": st.sampled_from(MOVES),
        "flood": st.sampled_from((*FLOODS, *FLOODS[1:] * 2)),
    }
    return st.builds(World, **(usual | choices))


# ---- damage, offloads, bursts -------------------------------------------------------


def damaged(pick: Pick, data: bytes) -> bytes:
    """Usually as it is."""
    kind = pick.one_of(*["no"] * 7, "flip", "flip", "cut", "pad")
    if kind == "cut":
        return data[: pick.integer(0, min(len(data), 130))]
    if kind == "pad":
        return data + bytes(pick.integer(1, 20))
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(pick.integer(1, 2)):
            at = min(pick.one_of(pick.integer(12, 24), pick.integer(0, 110)), len(data) - 1)
            changed[at] = pick.one_of(pick.integer(0, 255), changed[at] ^ 1, changed[at] ^ 0x80)
        return bytes(changed)
    return data


def offloads(pick: Pick, packet: Packet, data: bytes) -> dict[str, Any]:
    """Metadata: none, what Linux would hand down for this packet, or nonsense."""
    kind = pick.seldom("random", pick.one_of("none", "none", "own", "gso"), 6)
    l4_layer = next((layer for layer in (TCP, UDP) if layer in packet), None)
    if kind == "none" or (kind != "random" and l4_layer is None):
        return {}
    if kind == "random":
        return {
            "csum_partial": pick.one_of(True, True, False),
            "csum_start": pick.one_of(0, 14, 34, 38, 54, 100, len(data) & 0xFFFF, 65535),
            "csum_offset": pick.one_of(0, 2, 6, 8, 16, 65535),
            "gso": pick.one_of(Gso.NONE, Gso.NONE, Gso.TCP4, Gso.TCP6, Gso.UDP),
            "gso_size": pick.one_of(0, 1, 500),
        }
    start = len(data) - len(packet[l4_layer])
    own = {"csum_partial": True, "csum_start": start & 0xFFFF, "csum_offset": 16 if l4_layer is TCP else 6}
    if kind == "own" or (l4_layer is UDP and pick.seldom(False, True)):
        return own
    kind = Gso.UDP if l4_layer is UDP else Gso.TCP6 if IPv6 in packet else Gso.TCP4
    return own | {"gso": pick.seldom(Gso.TCP4, kind), "gso_size": pick.one_of(8, 100, 500, 1000, 1448)}


def frame(world: World, port: int, seed: int, honest: bool) -> Frame:
    """What comes in at the port: from the underlay, or from its VM."""
    pick = Pick(seed, honest)
    if port == UNDERLAY:
        packet = underlay_frame(pick, world)
    else:
        vms = {vm.port: vm for vm in world.vms()}
        packet = tenant_frame(pick, world, vms.get(port, vms[1]))
    data = bytes(packet)
    metadata = offloads(pick, packet, data)
    return Frame(data if honest else damaged(pick, data), flow=pick.integer(0, 3), **metadata)


def burst(draw: st.DrawFn, world: World) -> Burst:
    tenants = [vm.port for vm in world.vms() if vm.port and vm.number != LOCAL_DOWN]
    port = draw(st.sampled_from([UNDERLAY] * len(tenants) + tenants * 2 + [NO_POLICY_PORT]))
    seeds = st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), min_size=1, max_size=8)
    some = [frame(world, port, *seed) for seed in draw(seeds)]
    repeat = draw(st.sampled_from([1] * 10 + [5, 20]))
    ns = draw(st.sampled_from([MILLISECOND] * 3 + [SECOND, SECOND, 4 * SECOND, 27 * SECOND, 31 * SECOND]))
    return Burst(port, ns, some * repeat)


# ---- policy changes -----------------------------------------------------------------------------


CHANGES = ("remove", "move", "restore", "provider", "prefix", "limit", "flood")


def update(draw: st.DrawFn, world: World, generation: int, changes: Sequence[str]) -> bytes:
    """A change set that is valid whatever came before: it puts all rows first."""
    chance = Random(draw(st.integers(0, 2**32)))
    everything = [put(rows) for rows in world.groups() if rows]
    kind = draw(st.sampled_from(changes))
    if kind == "remove":
        rows = [row for row in world.rows() if isinstance(row, RecordRow | RouteRow | SourceRow | MoveRow)]
        changed = everything + [delete([row]) for row in chance.sample(rows, k=chance.randint(1, 12))]
    elif kind == "move":
        rows = [row for row in world.rows() if isinstance(row, RecordRow)]
        nvgre = [row for row in rows if row.translation == Translation.NVGRE]
        some = chance.sample(nvgre, k=min(len(nvgre), 10))
        changed = everything + [put([moved(chance, row)]) for row in some]
        of = chance.sample(rows, k=len(rows) // 3)
        changed += [put([MoveRow(row.ca, row.vsid, chance.choice((1, 2, 3, 4)), row.family) for row in of])]
    elif kind == "limit":
        rows = [row for row in world.rows() if isinstance(row, PortRow)]
        some = chance.sample(rows, k=len(rows) // 2)
        changed = everything + [put([PortRow(*row[:3], *chance.choice((NO_LIMIT, *LIMITS)))]) for row in some]
    elif kind == "flood":
        changed = everything + flood_changes(chance, world)
    elif kind == "provider":
        changed = everything + provider_changes(chance, world)
    elif kind == "prefix":
        rows = [row for row in world.rows() if isinstance(row, PrefixRow)]
        row = chance.choice(rows)
        last = 3 if row.family == 4 else 15
        other_gateway = row._replace(gateway=row.gateway[:last] + b"\xfe" + row.gateway[last + 1 :])
        changed = [*everything, chance.choice((delete([row]), put([other_gateway])))]
    else:
        changed = everything
    return ChangeSet(generation, tuple(changed), atomic=draw(st.booleans())).encode()


def flood_changes(chance: Random, world: World) -> list[Section]:
    """Of who hears what is sent to groups, and how much of it."""
    subnets = [row for row in world.rows() if isinstance(row, SubnetRow)]
    floods = [row for row in world.rows() if isinstance(row, FloodRow)]
    host, family = chance.choice((2, 3, 4)), chance.choice((4, 6))
    more = [FloodRow(pack_address(SHARED[host, family]), row.vsid, host, family) for row in subnets]
    changed = [SubnetRow(*row[:2], *chance.choice(FLOODS)) for row in subnets]
    choices = [put(changed), put(more)]
    choices += [delete(chance.sample(floods, k=chance.randint(1, len(floods))))] if floods else []
    return chance.sample(choices, k=chance.randint(1, len(choices)))


def provider_changes(chance: Random, world: World) -> list[Section]:
    """Of PAs that no record names, and of routes between PAs."""
    pas = [row for row in world.rows() if isinstance(row, PaRow)]
    named = {row.provider_address for row in world.rows() if isinstance(row, RecordRow) and row.host != SELF}
    named |= {row.provider_address for row in world.rows() if isinstance(row, FloodRow)}
    unnamed = [row for row in pas if row.address not in named and row.kind == PaKind.SHARED]
    routes = [row for row in world.rows() if isinstance(row, ProviderRouteRow)]
    elsewhere = PaRow(pack_address(ip_address("192.168.77.112")), 2, 4, PaKind.SHARED, 24)
    detour = ProviderRouteRow(
        pack_address(ip_address("192.168.100.0")), pack_address(ip_address("192.168.77.1")), 4, 22
    )
    choices = [put([elsewhere]), put([detour]), delete([chance.choice(routes)])]
    if unnamed:
        choices.append(delete([chance.choice(unnamed)]))
    return chance.sample(choices, k=chance.randint(1, len(choices)))


def moved(chance: Random, row: RecordRow) -> RecordRow:
    host, family = chance.choice((2, 3, 4)), chance.choice((4, 6))
    mac = bytes((2, 0xCC, 0, 0, 0, chance.randint(0, 3)))
    pa = pack_address(SHARED[host, family])
    return row._replace(host=host, port=0, provider_address=pa, pa_family=family, mac=mac)


Step = Burst | bytes | int
"""What comes in, a change set, or a port whose device goes or comes back."""


@st.composite
def trains(draw: st.DrawFn, world: World, changes: Sequence[str] = CHANGES) -> list[Step]:
    train: list[Step] = [burst(draw, world)]
    for generation in range(2, 2 + draw(st.integers(0, 5))):
        between = draw(st.sampled_from((None,) * 5 + ("update", "update", "toggle")))
        if between == "update":
            train.append(update(draw, world, generation, changes))
        if between == "toggle":
            train.append(draw(st.sampled_from([UNDERLAY, *range(1, 9)])))
        train.append(burst(draw, world))
    return train
