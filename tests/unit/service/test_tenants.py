"""Of two tenants on one fabric neither hears of what the other one has, whatever it asks for."""

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from policy.errors import (
    ConflictError,
    ForbiddenError,
    ManifestError,
    NotFoundError,
    ObjectId,
    PolicyError,
    ReferencedError,
    UnreadableError,
)
from policy.kinds import documents, keys
from policy.kinds.manifest import Stated
from policy.kinds.model import (
    AddressRange,
    Attach,
    AttachKind,
    CustomerRoute,
    Host,
    IPPool,
    LogicalNetwork,
    LookupRecord,
    Mac,
    NetworkSite,
    Object,
    Port,
    SiteSubnet,
    Tenant,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.service import events
from policy.service.events import Event
from policy.service.principal import ANOTHER, OPERATOR, Principal
from policy.service.service import Service
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.unit.service.agents import say

BLUE = Principal("ann", frozenset({"blue"}))
MALLORY = Principal("mallory", frozenset({"sekret"}))
PA, CA, MAC, VSID = ip_address("10.0.0.66"), ip_address("10.66.0.6"), Mac("02:66:66:66:66:66"), 6006
SOME = AddressRange(ip_address("10.67.0.9"), ip_address("10.67.0.99"))
DEVICE = Attach(AttachKind.DEVICE, "vnet66")

FABRIC: list[Object] = [
    LogicalNetwork("fabric"),
    NetworkSite(
        "rack0",
        "fabric",
        (
            SiteSubnet(
                ip_network("10.0.0.0/24"), AddressRange(ip_address("10.0.0.60"), ip_address("10.0.0.75"))
            ),
        ),
    ),
    *(Host(name, "rack0", (), Underlay("u1")) for name in ("h1", "h2")),
]


def tenant_objects(tenant: str, prefix: str) -> list[Object]:
    network = ip_network(prefix)
    return [
        VMNetwork(tenant, f"{tenant}-net", "fabric"),
        VMSubnet(tenant, f"{tenant}-rw", f"{tenant}-net", (network,), translation=Translation.REWRITE),
    ]


THEIRS: list[Object] = [
    *tenant_objects("sekret", "10.66.0.0/24"),
    # a gateway that does not follow from a prefix that others may have, too
    VMSubnet(
        "sekret", "sekret-nv", "sekret-net", (ip_network("10.67.0.0/24"),), (ip_address("10.67.0.166"),), VSID
    ),
    Port("sekret", "sekret-a", "sekret-rw", "h1", (CA,), MAC, (PA,), attach=DEVICE),
    Port("sekret", "sekret-b", "sekret-rw", "h1"),
    Port("sekret", "sekret-c", "sekret-nv", "h2"),
    IPPool(
        "sekret-pool",
        "sekret",
        "",
        "sekret-nv",
        AddressRange(ip_address("10.67.0.9"), ip_address("10.67.0.99")),
    ),
]
OURS: list[Object] = [
    *tenant_objects("blue", "10.1.0.0/24"),
    Port("blue", "web", "blue-rw", "h1"),
    Port("blue", "db", "blue-rw", "h2"),
]


def stated(*objects: Object) -> Stated:
    return Stated(intent_of(objects))


def world() -> MemoryStore:
    store = MemoryStore()
    Service(store, OPERATOR).apply(stated(*FABRIC, *THEIRS, *OURS))
    say(
        store,
        "h1",
        0,
        "failed",
        "sekret/sekret-a: no device",
        "u1: not for sekret-b",
        ports=["sekret/sekret-a"],
    )
    return store


WORD = re.compile(r"[\w.:-]+")


def words(*things: Any) -> set[str]:
    return {word.strip(".:") for thing in things for word in WORD.findall(f"{thing!r} {thing!s}")}


def secrets(store: MemoryStore) -> set[str]:
    """Names and addresses of the other tenant: stated and given."""
    policy = documents.policy_from(snapshot_of(store, keys.INTENT).items)
    found = {"sekret", "mallory"}
    for item in policy.by_id.values():
        if item.id.tenant != "sekret":
            continue
        found.add(item.id.name)
        match item:
            case Port():
                found |= {*map(str, item.addresses), *map(str, item.provider_addresses), item.mac}
            case VMSubnet():
                found |= {str(item.vsid), *map(str, item.gateways)}
    return found


# ---- what is asked -------------------------------------------------------------------------------


def ports() -> st.SearchStrategy[Object]:
    def port(name: str, subnet: str, ca: int, mac: Mac, pa: int, device: bool, host: str) -> Object:
        addresses = (ip_address(f"10.1.0.{ca}"),) if ca else ()
        pas: tuple[IPv4Address, ...] = (IPv4Address(f"10.0.0.{pa}"),) if pa else ()
        return Port("blue", name, subnet, host, addresses, mac, pas, attach=DEVICE if device else None)

    return st.builds(
        port,
        st.sampled_from(["web", "db", "new", "sekret-b", *(f"p{number}" for number in range(8))]),
        st.sampled_from(["blue-rw", "blue-rw", "blue-rw", "blue-nv", "sekret-rw"]),
        st.sampled_from([0, 0, 5, 6]),
        st.sampled_from([Mac(""), MAC]),
        st.sampled_from([0, 0, 66, *range(60, 76)]),
        st.booleans(),
        st.sampled_from(["h1", "h1", "h2", "h3"]),
    )


def others() -> st.SearchStrategy[Object]:
    subnet = st.builds(
        lambda vsid, network: VMSubnet("blue", "blue-nv", network, (ip_network("10.67.0.0/24"),), vsid=vsid),
        st.sampled_from([0, VSID, 5000]),
        st.sampled_from(["blue-net", "sekret-net"]),
    )
    record = st.builds(
        lambda vsid, pa: LookupRecord("blue", "record", vsid, CA, MAC, "h1", "web", pa),
        st.sampled_from([VSID, 5000]),
        st.sampled_from([None, PA]),
    )
    route = st.just(CustomerRoute("blue", "way", "blue-net", ip_network("10.66.0.0/16"), CA))
    pool = st.sampled_from(["blue-rw", "sekret-nv"]).map(
        lambda name: IPPool("pool", "blue", "", name, AddressRange(CA, CA + 3))
    )
    foreign = st.sampled_from([*THEIRS, *FABRIC, Tenant("sekret"), Tenant("blue")])
    return st.one_of(subnet, record, route, pool, foreign)


Ask = tuple[Any, Callable[[Service], Any]]
"""What is said in asking, and the asking."""


def applying(objects: list[Object]) -> Ask:
    return objects, lambda service: service.apply(stated(*objects))


def deleting(found: tuple[list[ObjectId], bool, bool]) -> Ask:
    ids, cascade, ignore = found
    return ids, lambda service: service.delete(ids, cascade=cascade, ignore_missing=ignore)


IDS = [item.id for item in (*OURS, *THEIRS, *FABRIC)]
LOOKING: list[Ask] = [
    *(
        ((), lambda service, kind=kind: service.views(kind))
        for kind in ("Port", "VMSubnet", "Host", "Tenant")
    ),
    ((), lambda service: service.events()),
    ((), lambda service: service.history()),
    ((), lambda service: service.rollback(2)),
    ("sekret", lambda service: service.views("Port", "sekret")),
    ("sekret-a", lambda service: service.find("Port", "sekret-a")),
    ("sekret-net", lambda service: service.find("VMNetwork", "sekret-net")),
    ((), lambda service: service.wait_applied([OURS[2].id], 0, lambda _: None)),
]


def looking_at(identity: ObjectId) -> list[Ask]:
    return [
        (identity, lambda service: [view.document() for view in service.view([identity])]),
        (identity, lambda service: service.rollout(identity)),
        (identity, lambda service: service.referrers(identity)),
        (identity, lambda service: service.events(identity)),
        (identity, lambda service: service.label([identity], {"a": "b"})),
        (identity, lambda service: service.wait_deleted([identity], 0)),
    ]


asks = st.one_of(
    st.lists(st.one_of(ports(), ports(), others()), min_size=1, max_size=3).map(applying),
    st.lists(ports(), min_size=8, max_size=14).map(applying),
    st.tuples(st.lists(st.sampled_from(IDS), min_size=1, max_size=2), st.booleans(), st.booleans()).map(
        deleting
    ),
    st.sampled_from([*LOOKING, *(ask for identity in IDS for ask in looking_at(identity))]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(asks, min_size=1, max_size=6))
@example(
    [
        applying([VMSubnet("blue", "blue-nv", "blue-net", (ip_network("10.67.0.0/24"),))]),
        ((), lambda service: service.views("VMSubnet")),
    ]
)
def test_nothing_that_a_tenant_gets_names_what_is_anothers(asked: list[Ask]) -> None:
    store, known = world(), set[str]()
    for said, ask in asked:
        known |= words(said)
        try:
            got = ask(Service(store, BLUE))
        except PolicyError as error:
            got = [error, *getattr(error, "problems", ())]
            event(type(error).__name__)
        leaked = words(got, json.dumps(got, default=str)) & secrets(store) - known
        assert not leaked, got
    before = documents.intent_from(snapshot_of(store, keys.INTENT).items)
    assert {item.id: item for item in (*THEIRS, *FABRIC)}.items() <= before.by_id.items(), (
        "not ours to change"
    )


# ---- what is said instead ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Port("blue", "new", "blue-rw", "h1", (), Mac(""), (PA,)), rf"10\.0\.0\.66 is .* of {ANOTHER}"),
        (Port("blue", "new", "blue-rw", "h1", attach=DEVICE), rf"of {ANOTHER}"),
        (
            VMSubnet("blue", "new", "blue-net", (ip_network("10.9.0.0/24"),), vsid=VSID),
            rf"6006 is .*{ANOTHER}",
        ),
    ],
)
def test_what_another_tenant_has_is_in_use(item: Object, text: str) -> None:
    with pytest.raises(ManifestError, match=text) as refused:
        Service(world(), BLUE).apply(stated(item))
    assert "sekret" not in str(refused.value)
    with pytest.raises(ManifestError, match=r"Port sekret/sekret-a|VMSubnet sekret/sekret-nv"):
        Service(world(), OPERATOR).apply(stated(item))


def test_a_foreign_tenant_is_not_there() -> None:
    service = Service(world(), BLUE)
    mine = Port("blue", "new", "blue-rw", "h1")
    asked: list[Callable[[], object]] = [
        lambda: service.apply(stated(mine, Port("sekret", "new", "sekret-rw", "h1"))),
        lambda: service.apply(stated(Port("nobody", "new", "none", "h1"))),
        lambda: service.views("Port", "sekret"),
        lambda: service.views("Port", "nobody"),
    ]
    for ask, tenant in zip(asked, ["sekret", "nobody"] * 2, strict=True):
        with pytest.raises(NotFoundError) as refused:
            ask()
        assert str(refused.value) == f"there is no Tenant {tenant}"
    for identity in (THEIRS[3].id, ObjectId("Port", "sekret", "none")):
        with pytest.raises(NotFoundError, match=f"there is no {identity}"):
            service.view([identity])
        with pytest.raises(NotFoundError, match=f"there is no {identity}"):
            service.delete([identity])
        assert service.delete([identity], ignore_missing=True).outcomes == ()


def test_names_are_of_ones_own_objects() -> None:
    store = world()
    theirs, mine = Service(store, MALLORY), Service(store, BLUE)
    assert theirs.tenants() == ["sekret"] and mine.tenants() == ["blue"]
    assert set(Service(store, OPERATOR).tenants()) >= {"blue", "sekret"}
    for kind in ("Port", "VMSubnet", "VMNetwork"):
        every = set(Service(store, OPERATOR).names(kind, ""))
        assert {name for name in every if name.startswith("sekret/")}
        assert not {name for name in mine.names(kind, "") if "sekret" in name}
        assert {name for name in mine.names(kind, "") if "/" in name} == {
            name for name in every if name.startswith("blue/")
        }


def test_kinds_and_the_fabric_are_for_those_who_may() -> None:
    store = world()
    for who, item in (
        (BLUE, Host("h9", "rack0", (), Underlay("u1"))),
        (BLUE, Tenant("blue", "mine")),
        (Principal("ann", frozenset({"blue"}), frozenset({"Port"})), VMNetwork("blue", "more", "fabric")),
    ):
        with pytest.raises(ForbiddenError, match=rf"ann may not change {item.id}"):
            Service(store, who).apply(stated(item))
    only_ports = Service(store, Principal("ann", frozenset({"blue"}), frozenset({"Port"})))
    only_ports.delete([ObjectId("Port", "blue", "web")])
    with pytest.raises(ReferencedError, match=r"VMSubnet blue/blue-rw"):
        only_ports.delete([ObjectId("VMNetwork", "blue", "blue-net")])
    with pytest.raises(ForbiddenError, match=r"ann may not change VMNetwork blue/blue-net"):
        only_ports.delete([ObjectId("VMNetwork", "blue", "blue-net")], cascade=True)


def test_prune_and_rollback_of_a_tenant_are_its_own() -> None:
    store = world()
    operator, service = Service(store, OPERATOR), Service(store, BLUE)
    operator.label([THEIRS[3].id, OURS[2].id, ObjectId("Host", "", "h1")], {"gone": "soon"})
    done = service.apply(stated(), prune=(("gone", "soon"),))
    assert [identity for identity, _ in done.outcomes] == [OURS[2].id]
    done = service.rollback(1)
    assert [identity for identity, _ in done.outcomes] == [OURS[2].id]
    [theirs] = operator.view([THEIRS[3].id])
    assert theirs.labels == {"gone": "soon"}


def test_what_others_have_and_can_not_be_read_is_not_named() -> None:
    store = world()
    newer = keys.object_key(ObjectId("Port", "sekret", "sekret-z"))
    store.commit({newer: b'{"spec":{},"version":99}'}, [keys.INDEX_READY])  # all is read then
    service = Service(store, BLUE)
    asked: list[Callable[[], object]] = [
        lambda: service.apply(stated(Port("blue", "new", "blue-rw", "h1"))),
        lambda: service.delete([OURS[2].id]),
        lambda: service.referrers(ObjectId("VMNetwork", "blue", "blue-net")),
    ]
    for ask in asked:
        with pytest.raises(UnreadableError, match=rf"^{ANOTHER} can't be read") as caught:
            ask()
        assert "sekret" not in str(caught.value)


def test_what_others_have_and_can_not_be_read_is_no_matter_of_prune() -> None:
    store = world()
    service = Service(store, BLUE)
    service.label([OURS[2].id], {"gone": "soon"})
    store.commit({keys.object_key(ObjectId("Port", "sekret", "sekret-z")): b"{"})
    done = service.apply(stated(), prune=(("gone", "soon"),))
    assert [identity for identity, _ in done.outcomes] == [OURS[2].id]


def test_a_lost_race_names_no_keys() -> None:
    class Losing(MemoryStore):
        def commit(self, *_args: Any, **_words: Any) -> int:
            raise ConflictError("intent/Port/sekret/sekret-a has changed since revision 1")

    store = world()
    store.__class__ = Losing
    with pytest.raises(ConflictError, match=r"^others were faster$"):
        Service(store, BLUE).label([OURS[2].id], {"a": "b"})


def test_problems_of_other_ports_are_not_told() -> None:
    store = world()
    say(
        store,
        "h1",
        9,
        "failed",
        "sekret/web: no device",
        "port blue/web: no tap",
        ports=["sekret/web", "blue/web"],
    )
    service = Service(store, BLUE)
    [view] = service.view([OURS[2].id])
    assert view.status is not None and view.status.problems == ("port blue/web: no tap",)
    say(store, "h1", 9, "failed", "u1: sekret", ports=[])
    [view] = service.view([OURS[2].id])
    assert view.status is not None and view.status.problems == ("the host has problems of its own",)
    assert [status.problems for status in Service(store, OPERATOR).rollout(OURS[2].id)] == [
        ("u1: sekret",),
        (),
    ]


def test_events_are_of_ones_own_objects() -> None:
    store = world()
    service, operator = Service(store, BLUE), Service(store, OPERATOR)
    operator.label([OURS[2].id], {"a": "b"})
    Service(store, MALLORY).label([THEIRS[3].id], {"a": "b"})
    first, second = service.events()
    assert (first.text, set(first.objects)) == ("changed", {str(item.id) for item in OURS})
    assert second == operator.events()[1]
    assert [entry.event for entry in service.history()] == [first, second]


def test_what_failed_on_a_host_is_not_told_as_a_change() -> None:
    store = world()
    text = "failed revision 9: port blue/web: no tap; u1: sekret"
    key, value = events.item(Event(2e9, "host h1", text, {}, ("Host h1", "Port blue/web")))
    store.commit({key: value})
    last = Service(store, BLUE).events()[-1]
    assert (last.source, last.text, last.objects) == ("host h1", "failed", ("Port blue/web",))
