"""HNV's own objects beside compiled ones: from manifests to the rows of the core, and through the store."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner
from scapy.layers.inet import IP
from scapy.layers.l2 import GRE, Ether

from dataplane.binding.core import Config, Dataplane
from dataplane.binding.tables import RowKind
from policy.compile import diff
from policy.compile.compiler import compile_host, next_hop_macs
from policy.compile.tables import SELF, ProviderAddress, ProviderRoute
from policy.errors import ManifestError, ObjectId, ReferencedError
from policy.ipam import allocate
from policy.ipam.ledger import Grant, Value
from policy.ipam.quarantine import HOLD_SECONDS
from policy.kinds import documents, keys, manifest
from policy.kinds.model import ROUTER_MAC, AddressRange, Intent, IPPool, Policy, Port, VMSubnet, intent_of
from policy.service import changes, resolve
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.golden import captures
from tests.golden.table import START
from tests.golden.world import ROUTER, frame
from tests.unit.manifests import BASE, ROOT, edited, load, problems
from tools.cli import main

EXAMPLE = ROOT / "examples" / "raw-records.yaml"
RECORD = """\
kind: LookupRecord
metadata: {name: far, tenant: blue}
spec: {virtualSubnetId: 5002, customerAddress: 10.1.2.30, macAddress: "02:bb:00:00:00:30", host: ovs1}
"""
SUBNET = VMSubnet("blue", "given", "Blue_VMNet", (ip_network("10.1.3.0/24"),))


def stated(text: str, directory: Path) -> Intent:
    path = directory / "net.yaml"
    path.write_text(text)
    found, wrong, _ = manifest.read([path])
    assert not wrong
    return found


@pytest.fixture
def example() -> Policy:
    return resolve.load([EXAMPLE])


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    changes.commit(store, changes.apply(stated(f"{BASE}---\n{RECORD}", tmp_path)))
    return store


# ---- tables --------------------------------------------------------------------------------------


def test_records_of_the_example(example: Policy) -> None:
    """Beside those of ports, sorted with them, the same on every host."""
    common = {"virtualSubnetId": 5001, "translation": "nvgre"}
    web, gateway = "02:bb:00:00:00:10", "02:bb:00:00:00:20"
    wanted = [
        ("0.0.0.0", gateway, "192.168.77.102", "gateway-wildcard", "h2", "blue/blue-gateway"),
        ("10.1.1.10", web, "192.168.77.101", "static", "h1", "blue/blue-web"),
        ("10.1.1.11", web, "192.168.77.101", "static", "h1", "blue/blue-web"),
        ("10.1.1.20", gateway, "192.168.77.102", "static", "h2", "blue/blue-gateway"),
        ("10.1.1.30", "02:bb:00:00:00:30", "192.168.77.10", "static", "ovs1", ""),
    ]
    names = ("customerAddress", "macAddress", "providerAddress", "type", "host", "port")
    for host in ("h1", "h2"):
        view = compile_host(example, host).view()
        assert view["records"] == [{**dict(zip(names, row, strict=True)), **common} for row in wanted]
        assert list(view["records"][0]) == [
            "virtualSubnetId", "customerAddress", "macAddress", "providerAddress",
            "translation", "type", "host", "port",
        ]  # fmt: skip
        pas = {"address": "192.168.77.10", "prefixLength": 24, "kind": "shared", "host": "ovs1"}
        assert pas in view["providerAddresses"]
    assert next_hop_macs(example, compile_host(example, "h1"))[ip_address("192.168.77.10")] == (
        "02:00:00:00:77:09"
    )


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_the_core_holds_the_records(host: str, example: Policy) -> None:
    tables = compile_host(example, host)
    wanted = diff.rows_of(tables, tables.ids)
    with Dataplane(Config(SELF, bytes.fromhex(ROUTER_MAC.replace(":", "")), (1, 2))) as core:
        core.apply(tables.change_set().encode())
        held = diff.index({kind: core.rows(kind) for kind in RowKind})
    for kind in RowKind:
        assert held[kind] == {key: diff.canonical(kind, row) for key, row in wanted[kind].items()}
    wildcard = bytes(16) + (5001).to_bytes(4, "little") + b"\x04"
    assert len(held[RowKind.RECORD]) == 5 and wildcard in held[RowKind.RECORD]


def test_packets_go_where_raw_records_say(tmp_path: Path) -> None:
    """To the foreign VM by the PA that its record names; to what has no record by the wildcard's gateway."""
    mac, legacy = "02:bb:00:00:00:10", "02:bb:00:00:00:30"
    sent = [
        bytes(frame(mac, legacy, "10.1.1.10", "10.1.1.30")),
        bytes(frame(mac, ROUTER, "10.1.1.11", "203.0.113.1")),
        bytes(frame(mac, legacy, "10.1.1.12", "10.1.1.30")),
    ]
    source, out = tmp_path / "in.pcap", tmp_path / "out"
    source.write_bytes(captures.encode([(START + number, each) for number, each in enumerate(sent)]))
    words = ["replay", EXAMPLE, "--host", "h1", "--in", f"blue-web={source}", "--out-dir", out]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    tunnelled = [Ether(each) for _, each in captures.directory(out)["underlay"]]
    assert [(each[IP].dst, each.dst) for each in tunnelled] == [
        ("192.168.77.10", "02:00:00:00:77:09"),
        ("192.168.77.102", "02:00:00:00:77:02"),
    ], "and 10.1.1.12 is no address of the port"
    inner = [Ether(bytes(each[GRE].payload)) for each in tunnelled]
    assert [(each.dst, each[IP].src, each[IP].dst) for each in inner] == [
        ("02:bb:00:00:00:30", "10.1.1.10", "10.1.1.30"),
        ("02:bb:00:00:00:20", "10.1.1.11", "203.0.113.1"),
    ]


def test_rewrite_by_a_pa_of_its_own(tmp_path: Path) -> None:
    record = (
        "kind: LookupRecord\nmetadata: {name: second, tenant: blue}\n"
        'spec: {virtualSubnetId: 5001, customerAddress: 10.1.1.11, macAddress: "02:bb:00:00:00:10",\n'
        "       host: h1, port: web, rule: rewrite, providerAddress: 192.168.77.30, type: dynamic}\n"
    )
    for host in ("h1", "h2"):
        tables = compile_host(load(f"{BASE}---\n{record}", tmp_path), host)
        pa = ip_address("192.168.77.30")
        assert ProviderAddress(pa, 24, "rewrite", "h1") in tables.provider_addresses
        (row,) = (row for row in tables.view()["records"] if row["customerAddress"] == "10.1.1.11")
        assert (row["providerAddress"], row["translation"]) == (str(pa), "rewrite")
        assert (row["type"], row["port"]) == ("dynamic", "blue/web")


def test_a_host_may_have_provider_addresses_as_objects_only(tmp_path: Path) -> None:
    text = edited(("  providerAddresses: [192.168.77.9]\n", ""), ("site: rack1\n  m", "site: r2\n  m"))
    text += (
        "---\nkind: NetworkSite\nmetadata: {name: r2}\n"
        "spec: {logicalNetwork: fabric, subnets: [{prefix: 192.168.78.0/24}]}\n"
    )
    assert "left out, but no subnet of NetworkSite r2 has a paPool" in "".join(problems(text, tmp_path))
    shared = "kind: ProviderAddress\nmetadata: {name: p}\nspec: {host: ovs1, providerAddress: 192.168.78.9}\n"
    tables = compile_host(load(f"{text}---\n{shared}", tmp_path), "h1")
    assert {str(row.provider_address) for row in tables.records if row.host == "ovs1"} == {"192.168.78.9"}


def test_the_provider_route_with_the_lowest_metric_counts(tmp_path: Path) -> None:
    route = (
        "kind: ProviderRoute\nmetadata: {name: NAME}\n"
        "spec: {site: rack1, prefix: 192.168.80.0/22, nextHop: 192.168.77.HOP, metric: HOP}\n"
    )
    routes = [route.replace("NAME", f"r{hop}").replace("HOP", str(hop)) for hop in (7, 3, 5)]
    tables = compile_host(load("---\n".join([BASE, *routes]), tmp_path), "h1")
    prefix = ip_network("192.168.80.0/22")
    assert [each for each in tables.provider_routes if each.prefix == prefix] == [
        ProviderRoute(prefix, ip_address("192.168.77.3"))
    ]


# ---- given VSIDs, MACs and addresses -------------------------------------------------------------


def given_vsid(store: MemoryStore) -> int:
    """Of one more subnet, which is given one."""
    changes.commit(store, changes.apply(intent_of([SUBNET])))
    policy = documents.policy_from(snapshot_of(store, keys.INTENT).items)
    return policy.subnet_by_id[SUBNET.id].vsid


def test_a_vsid_that_was_given(store: MemoryStore, tmp_path: Path) -> None:
    """Names its subnet as well as one that is stated: its delete is refused, or takes the record along."""
    vsid = given_vsid(store)
    text = RECORD.replace("5002", str(vsid)).replace("10.1.2.30", "10.1.3.30").replace("far", "inside")
    record = ObjectId("LookupRecord", "blue", "inside")
    changes.commit(store, changes.apply(stated(text, tmp_path)))
    with pytest.raises(ReferencedError) as refused:
        changes.commit(store, changes.delete([SUBNET.id]))
    assert str(refused.value) == (
        "VMSubnet blue/given is still referred to by LookupRecord blue/inside: spec.virtualSubnetId"
    )
    _, plan = changes.commit(store, changes.delete([SUBNET.id], cascade=True))
    assert [identity for identity, _ in plan.outcomes] == [record, SUBNET.id]


def test_what_only_the_complete_policy_tells(store: MemoryStore, tmp_path: Path) -> None:
    """Of a subnet and a port that were given their VSID, address and MAC."""
    vsid = given_vsid(store)
    changes.commit(store, changes.apply(intent_of([Port("blue", "bare", "given", "ovs1")])))
    policy = documents.policy_from(snapshot_of(store, keys.INTENT).items)
    (port,) = (port for port in policy.ports if port.name == "bare")
    text = RECORD.replace("5002", str(vsid)).replace("far", "inside")
    for old, new, path, words in (
        ("10.1.2.30", "10.9.9.9", "customerAddress", "10.9.9.9 is in no prefix of VMSubnet blue/given"),
        ("10.1.2.30", "10.1.3.1", "customerAddress", "10.1.3.1 is the gateway of 10.1.3.0/24"),
        (
            '10.1.2.30, macAddress: "02:bb:00:00:00:30"',
            '10.1.3.30, port: bare, macAddress: "02:bb:00:00:00:30"',
            "macAddress",
            f"Port blue/bare at store has MAC {port.mac}, not 02:bb:00:00:00:30",
        ),
    ):
        with pytest.raises(ManifestError) as caught:
            changes.commit(store, changes.apply(stated(text.replace(old, new), tmp_path)))
        assert f"LookupRecord blue/inside: spec.{path}: {words}" in str(caught.value)
    taken = text.replace("10.1.2.30", str(port.addresses[0]))
    with pytest.raises(ManifestError) as caught:
        changes.commit(store, changes.apply(stated(taken, tmp_path)))
    assert f"states {port.addresses[0]}, which has been granted to Port blue/bare" in str(caught.value)


def test_what_raw_objects_state_is_given_to_nobody(tmp_path: Path) -> None:
    """Nor at once to somebody else when they go."""
    text = BASE.replace("10.1.2.0/24", "10.1.2.16/29").replace("10.1.2.254", "10.1.2.17")
    text += f"---\n{RECORD.replace('10.1.2.30', '10.1.2.18')}"
    text += "---\nkind: ProviderAddress\nmetadata: {name: p}\n"
    text += "spec: {host: ovs1, providerAddress: 192.168.77.20}\n"
    full = [Port("blue", f"p{number}", "Blue2", "h1") for number in range(4)]  # of 5, less db and the record
    pool = IPPool("one", site="rack1", range=AddressRange(*[ip_address("192.168.77.20")] * 2))
    raw = stated(text, tmp_path)
    crowded = intent_of([*raw.by_id.values(), *full[:3], pool])
    policy, grants = allocate.complete(crowded, {}, 0)
    given = {str(address) for port in policy.ports for address in port.addresses}
    assert {"10.1.2.19", "10.1.2.21", "10.1.2.22"} < given and "10.1.2.18" not in given
    assert grants[Value("ca/blue/Blue2/4", "10.1.2.18")] == Grant("LookupRecord blue/far", "10.1.2.16/29")
    assert grants[Value("pa/rack1/4", "192.168.77.20")] == Grant("ProviderAddress p", "192.168.77.0/24")
    with pytest.raises(ManifestError, match=r"left out, but 10\.1\.2\.16/29 is used up"):
        allocate.complete(intent_of([*crowded.by_id.values(), full[3]]), grants, 0)
    gone = intent_of(item for item in crowded.by_id.values() if item not in (*raw.lookup_records, full[2]))
    _, held = allocate.complete(gone, grants, 1)
    _, held = allocate.complete(gone, {**held, Value("ca/blue/Blue2/4", "10.1.2.18"): AT_2}, 2)
    policy, held = allocate.complete(intent_of([*gone.by_id.values(), full[3]]), held, 2)
    taken = {str(address) for port in policy.ports for address in port.addresses}
    assert "10.1.2.18" not in taken, "another one's hold is older"
    policy, _ = allocate.complete(intent_of([*gone.by_id.values(), full[3], full[2]]), held, 3)
    assert "10.1.2.18" in {str(address) for port in policy.ports for address in port.addresses}


AT_2 = Grant("LookupRecord blue/far", "10.1.2.16/29", 2 + HOLD_SECONDS)


# ---- changes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ("5002", "5001", "virtualSubnetId", "5002 can't be changed to 5001"),
        ("10.1.2.30", "10.1.2.31", "customerAddress", "10.1.2.30 can't be changed to 10.1.2.31"),
        ("00:00:30", "00:00:31", "macAddress", "02:bb:00:00:00:30 can't be changed to 02:bb:00:00:00:31"),
        ("ovs1}", "ovs1, type: dynamic}", "type", "static can't be changed to dynamic"),
    ],
)
def test_what_identifies_a_record_stays(
    old: str, new: str, path: str, words: str, store: MemoryStore, tmp_path: Path
) -> None:
    changed = RECORD.replace(old, new)
    with pytest.raises(ManifestError) as caught:
        changes.commit(store, changes.apply(stated(changed, tmp_path)))
    assert (
        f"{tmp_path}/net.yaml:3: LookupRecord blue/far: spec.{path}: {words}: delete the record first"
        in str(caught.value).splitlines()
    )
    changes.commit(store, changes.delete([ObjectId("LookupRecord", "blue", "far")]))
    if path != "virtualSubnetId":  # its address is of the other subnet
        changes.commit(store, changes.apply(stated(changed, tmp_path)))


def test_all_else_of_a_record_can_be_changed(store: MemoryStore, tmp_path: Path) -> None:
    more = "ovs1, providerAddress: 192.168.77.9, context: moved, vmName: vm, customerId: blue}"
    _, plan = changes.commit(store, changes.apply(stated(RECORD.replace("ovs1}", more), tmp_path)))
    assert plan.changes
    (record,) = plan.policy.lookup_records
    assert (str(record.provider_address), record.context) == ("192.168.77.9", "moved")


def test_delete_of_what_raw_objects_name(store: MemoryStore) -> None:
    for kind, tenant, name, path in (
        ("Host", "", "ovs1", "spec.host"),
        ("VMSubnet", "blue", "Blue2", "spec.virtualSubnetId"),
    ):
        with pytest.raises(ReferencedError, match=f"by LookupRecord blue/far: {path}"):
            changes.commit(store, changes.delete([ObjectId(kind, tenant, name)]))


# ---- commands ------------------------------------------------------------------------------------


def test_commands(tmp_path: Path) -> None:
    environment = {"ISOLANE_STORE": str(tmp_path / "store.db")}

    def isolane(*words: object) -> str:
        done = CliRunner().invoke(main, [str(word) for word in words], env=environment)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "lookuprecord/blue/blue-beyond created" in isolane("apply", "-f", EXAMPLE)
    heading, *rows = isolane("get", "lookuprecords").splitlines()
    assert heading.split("  ")[0] == "TENANT" and "VSID  CA" in heading
    assert [row.split()[:4] for row in rows] == [
        ["blue", "blue-beyond", "5001", "0.0.0.0"],
        ["blue", "blue-legacy", "5001", "10.1.1.30"],
        ["blue", "blue-web-second", "5001", "10.1.1.11"],
    ]
    assert "192.168.77.10" in isolane("get", "provideraddresses")
    assert "provider address: 192.168.77.10" in isolane("describe", "lookuprecord", "blue-legacy")
    used = isolane("describe", "vmsubnet", "Blue_VMSubnet1").splitlines()
    assert "used by: LookupRecord blue/blue-legacy" in used
    assert isolane("diff", "-f", EXAMPLE) == ""
