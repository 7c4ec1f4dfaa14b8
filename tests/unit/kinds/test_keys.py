"""Keys: what is taken apart is what they were built from, and prefixes hold exactly what belongs to them."""

from hypothesis import given
from hypothesis import strategies as st

from policy.errors import ObjectId
from policy.kinds import keys

names = st.from_regex("[a-zA-Z0-9][a-zA-Z0-9._-]{0,8}", fullmatch=True)
tenants = names | st.just("")
kinds = st.sampled_from(["Host", "Port", "VMSubnet", "IPPool"])
identities = st.builds(ObjectId, kinds, tenants, names)
ports = st.builds(ObjectId, st.just("Port"), names, names)
pools = st.one_of(
    st.builds(keys.ca_pool, names, names, st.sampled_from([4, 6])),
    st.builds(keys.pa_pool, names, st.sampled_from([4, 6])),
    st.sampled_from([keys.VSID_POOL, keys.MAC_POOL]),
)
values = st.sampled_from(["5001", "10.0.0.1", "fd00::1", "02:bb:00:00:00:10"])
MAC = "02:bb:00:00:00:10"


def test_objects() -> None:
    assert keys.object_key(ObjectId("Host", "", "h1")) == "intent/Host//h1"
    assert keys.object_key(ObjectId("Port", "blue", "web")) == "intent/Port/blue/web"


@given(identities)
def test_an_object_is_known_by_its_key(identity: ObjectId) -> None:
    key = keys.object_key(identity)
    assert keys.object_id(key) == identity
    assert key.startswith(keys.objects_of(identity.kind, identity.tenant))
    assert key.startswith(keys.objects_of(identity.kind))


@given(pools, values)
def test_a_grant_is_known_by_its_key(pool: str, value: str) -> None:
    key = keys.grant_key(pool, value)
    assert keys.grant_value(key) == (pool, value)
    assert key.startswith(keys.grants_of(pool))


@given(names, ports)
def test_the_ports_of_a_host(host: str, port: ObjectId) -> None:
    key = keys.host_port_key(host, port)
    assert keys.host_port(key) == port and key.startswith(keys.ports_of(host))
    assert not key.startswith(keys.ports_of(f"{host}x"))


@given(names, names)
def test_who_has_a_mac(tenant: str, name: str) -> None:
    of_port = keys.port_mac_key(MAC, ObjectId("VMSubnet", tenant, name))
    of_host = keys.host_mac_key(MAC, name)
    assert keys.mac_owner(of_port) == (MAC, ObjectId("VMSubnet", tenant, name))
    assert keys.mac_owner(of_host) == (MAC, ObjectId("Host", "", name))
    assert all(key.startswith(keys.mac_owners_of(MAC)) for key in (of_port, of_host))
    assert of_host.startswith(keys.mac_hosts_of(MAC)) and not of_port.startswith(keys.mac_hosts_of(MAC))


@given(tenants, names, names)
def test_the_pools_of_a_place(tenant: str, place: str, name: str) -> None:
    where = ObjectId("VMSubnet" if tenant else "", tenant, place)
    assert keys.pool_id(keys.pool_key(where, name)) == ObjectId("IPPool", tenant, name)
    assert keys.pool_key(where, name).startswith(keys.pools_of(where))


@given(identities, pools, values)
def test_what_is_held_down(owner: ObjectId, pool: str, text: str) -> None:
    held = keys.Quarantined(owner, pool, text)
    key = keys.quarantine_key(held)
    assert keys.quarantined(key) == held
    assert key.startswith(keys.quarantine_shard_of(owner))
    assert sum(key.startswith(keys.quarantine_part(number)) for number in range(256)) == 1


@given(names, names, names)
def test_presences_hosts_and_names(tenant: str, network: str, host: str) -> None:
    of = ObjectId("VMNetwork", tenant, network)
    assert keys.presence_host(keys.presence_key(of, host)) == host
    assert keys.presence_key(of, host).startswith(keys.presences_of(of))
    assert keys.host_name(keys.host_key(host)) == host
    port = ObjectId("Port", tenant, network)
    assert keys.named_port(keys.named_port_key(port)) == port
    assert keys.named_port_key(port).startswith(keys.ports_named(network))


@given(st.lists(st.floats(1e9, 4e9), min_size=2))
def test_later_events_have_higher_keys(times: list[float]) -> None:
    in_order = [keys.event_key(seconds, "0000") for seconds in sorted(times)]
    assert in_order == sorted(in_order)
    assert all(key.startswith(keys.EVENTS) for key in in_order)


@given(identities)
def test_what_prints_is_read_back(identity: ObjectId) -> None:
    assert ObjectId.parse(str(identity)) == identity
    assert ObjectId.named(identity.kind, identity.qualified_name) == identity
