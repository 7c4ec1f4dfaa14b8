"""Random histories of policies, for what follows changes: each policy is made from the one before."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from policy.errors import ManifestError, ObjectId
from policy.ipam.allocate import allocate
from policy.kinds.model import (
    Broadcast,
    CustomerRoute,
    Host,
    Intent,
    Mac,
    Object,
    Policy,
    Port,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.rules import admission, references
from policy.service.lookup import with_referrers_in
from tests.unit.intents import FABRIC, HOSTS, TENANTS, UNMANAGED, intents


def completed(intent: Intent) -> Policy | None:
    if admission.check_intent(intent):
        return None
    try:
        policy = allocate(intent)
    except ManifestError:
        return None
    return None if admission.check_policy(policy) else policy


def _rich() -> Iterator[Object]:
    """Two tenants on four hosts, subnets of both translations, a route; PAs and VSIDs left out."""
    yield from FABRIC
    for number, name in enumerate(HOSTS, 1):
        managed = name != UNMANAGED
        underlay = Underlay("u1" if managed else "", Mac(f"02:00:00:00:77:{number:02x}"), 1600)
        pas = ip_address(f"10.0.1.{number}"), ip_address(f"fd77::{number}")
        yield Host(name, "rack1", pas, underlay, managed)
    for tenant in TENANTS[:2]:
        yield VMNetwork(tenant, "Net", "fabric")
        yield CustomerRoute(tenant, "far", "Net", ip_network("10.9.0.0/16"), ip_address("10.1.1.9"))
        for number, translation in enumerate((Translation.NVGRE, Translation.REWRITE, Translation.NVGRE), 1):
            name = f"Subnet{number}"
            yield VMSubnet(tenant, name, "Net", (ip_network(f"10.1.{number}.0/24"),), (), 0, translation)
            for place, host in enumerate(HOSTS if (tenant, number) == ("blue", 1) else HOSTS[:2]):
                yield Port(tenant, f"{tenant}-{number}-{place}", name, host)


RICH = intent_of(_rich())


@st.composite
def histories(draw: st.DrawFn) -> list[Policy]:
    """Policies, each made from the one before: objects go with all that refers to them, come back with all
    they refer to, or change.
    """
    everything = draw(st.one_of(st.just(RICH), st.just(RICH), intents()))
    stated = dict(everything.by_id)
    found: list[Policy] = []
    for _ in range(draw(st.integers(2, 8))):
        edited = dict(stated)
        for identity in draw(st.lists(st.sampled_from(sorted(everything.by_id)), max_size=3)):
            match draw(st.sampled_from(["go", "come", "change", "change"])):
                case "go":
                    for each in with_referrers_in(intent_of(edited.values()), [identity]):
                        edited.pop(each, None)
                case "come":
                    edited |= {each: everything.by_id[each] for each in _named_by(everything, identity)}
                case "change" if identity in edited:
                    edited[identity] = draw(_another(edited[identity]))
        policy = completed(intent_of(edited.values()))
        if policy is not None:
            stated = edited
            found.append(policy)
    return found


def _named_by(intent: Intent, identity: ObjectId) -> set[ObjectId]:
    """It and all that it needs."""
    found: set[ObjectId] = set()
    waiting = [identity]
    while waiting:
        each = waiting.pop()
        if each in intent.by_id and each not in found:
            found.add(each)
            waiting += [target for _, target in references.named_in(intent, intent.by_id[each])]
    return found


def _another(item: Object) -> st.SearchStrategy[Object]:
    match item:
        case Port():
            hosts = st.sampled_from(HOSTS[:3])
            return st.builds(lambda host: replace(item, host=host, provider_addresses=()), hosts)
        case Host():
            versions = st.sampled_from([(4,), (4, 6), (6,)])
            number = HOSTS.index(item.name) + 1
            pas = {4: ip_address(f"10.0.1.{100 + number}"), 6: ip_address(f"fd77::{100 + number}")}
            return st.builds(
                lambda wanted: replace(item, provider_addresses=tuple(pas[each] for each in wanted)), versions
            )
        case VMSubnet():
            vsids = st.integers(7000, 7003)
            return st.builds(
                lambda vsid, translation, broadcast: replace(
                    item, vsid=vsid, translation=translation, broadcast=broadcast
                ),
                vsids,
                st.sampled_from(Translation),
                st.sampled_from((Broadcast(), Broadcast(enabled=False), Broadcast(True, 50, 7))),
            )
        case CustomerRoute():
            return st.builds(lambda metric: replace(item, metric=metric), st.integers(0, 3))
    return st.just(item)
