"""What a store says of whose a record is, beside the compiler."""

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.compile.compiler import compile_host
from policy.ipam.allocate import allocate
from policy.kinds import keys
from policy.kinds.manifest import read
from policy.kinds.model import Intent
from policy.service import changes
from policy.service.port_names import Place, names_of
from policy.store.memory import MemoryStore
from policy.store.reading import Reading
from tests.unit.compile.views import items_of
from tests.unit.intents import HOSTS, UNMANAGED, intents
from tests.unit.manifests import EXAMPLE


def by_compiler(view: dict[str, list[dict[str, object]]]) -> dict[tuple[object, ...], object]:
    return {
        (each["virtualSubnetId"], each["customerAddress"], each["macAddress"], each["host"]): each["port"]
        for each in view["records"]
    }


@settings(max_examples=60, deadline=None)
@given(intents(), st.sampled_from([host for host in HOSTS if host != UNMANAGED]))
def test_they_are_those_of_the_compiler(intent: Intent, host: str) -> None:
    policy = allocate(intent)
    store = MemoryStore()
    store.commit(items_of(policy))
    wanted = by_compiler(compile_host(policy, host).view())
    vsids = {subnet.vsid for subnet in policy.vm_subnets}
    found = names_of(Reading(store), vsids)
    assert {place: found[Place(*place)] for place in wanted} == wanted  # type: ignore[arg-type]
    assert names_of(Reading(store), ()) == {}


def test_what_was_allocated_counts_and_what_cannot_be_read_does_not() -> None:
    store = MemoryStore()
    changes.commit(store, changes.apply(*read([EXAMPLE])))
    found = names_of(Reading(store), {5001, 6001})
    assert {place.vsid for place in found} == {5001, 6001}
    web = [place for place, name in found.items() if name == "blue/blue-web"]
    assert len(web) == 2 and all(place.host == "h1" for place in web)
    key = next(key for key in Reading(store).under(keys.objects_of("Port", "blue")) if "blue-web" in key)
    store.commit({key: b"{"})
    assert names_of(Reading(store), {5001, 6001}) == {
        place: name for place, name in found.items() if name != "blue/blue-web"
    }
