"""YAML to model: every field, and every way in which a document can be wrong, with file, line, field path."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import manifest
from policy.errors import Location, ManifestError, ObjectId
from policy.model import (
    ROUTER_MAC,
    AddressRange,
    Attach,
    AttachKind,
    Driver,
    Host,
    LogicalNetwork,
    Mac,
    NetworkSite,
    Port,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
)
from tests.unit.manifests import BASE, EXAMPLE, edited, load, problems

KINDS = (
    "Tenant, LogicalNetwork, NetworkSite, Host, ProviderRoute, ProviderAddress, IPPool, MACPool, VMNetwork,"
    " VMSubnet, Port, CustomerRoute, LookupRecord"
)
WEB_MAC = 'mac: "02:bb:00:00:00:10"'
WEB_CA = 'addresses: [10.1.1.10, "fd00:1:1::10"]'
WEB_ATTACH = "attach: {tap: eth0, netns: blue-web}"
NAME_RULE = "1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit"

# (edit of BASE, text on the line that is reported, what is reported)
MALFORMED = [
    # identity
    (
        ("{name: fabric}\n---", "{name: fabric}\nspce: {}\n---"),
        "spce",
        "LogicalNetwork fabric: spce: unknown field; did you mean spec?",
    ),
    (
        ("{name: web, tenant: blue}", "{name: web, tenant: blue, annotations: {}}"),
        "annotations",
        "Port blue/web: metadata.annotations: unknown field",
    ),
    (
        ("{name: web, tenant: blue}", "{name: web, tenant: blue, labels: [app]}"),
        "labels",
        "Port blue/web: metadata.labels: expected a mapping, not a list",
    ),
    (
        ("{name: web, tenant: blue}", "{name: web, tenant: blue, labels: {app: 1}}"),
        "labels",
        'Port blue/web: metadata.labels.app: expected a string, not an integer; quote it: "1"',
    ),
    (
        ("{name: web, tenant: blue}", "{name: web, tenant: blue, labels: {app: a/b}}"),
        "labels",
        "Port blue/web: metadata.labels.app: 'a/b' is not a label: up to 63 letters, digits, '.', '_' or '-'",
    ),
    (
        ("{name: web, tenant: blue}", "{name: web, tenant: blue, labels: {_app: x}}"),
        "labels",
        "Port blue/web: metadata.labels._app: '_app' is not a label's key: a name, or PREFIX/NAME",
    ),
    (("{name: web, tenant: blue}", "{name: web}"), "{name: web}", "Port web: metadata.tenant: missing"),
    (("{name: web, tenant: blue}", "{tenant: blue}"), "{tenant: blue}", "Port: metadata.name: missing"),
    (
        ("{name: h1}", "{name: h1, tenant: blue}"),
        "{name: h1,",
        "Host h1: metadata.tenant: a Host belongs to no tenant",
    ),
    (("metadata: {name: web, tenant: blue}\n", ""), "kind: Port\nspec", "Port: metadata: missing"),
    (("{name: web,", "{name: we/b,"), "we/b", f"Port: metadata.name: 'we/b' is not a name: {NAME_RULE}"),
    (
        ("{name: web,", "{name: 7,"),
        "{name: 7",
        'Port: metadata.name: expected a string, not an integer; quote it: "7"',
    ),
    (
        ("{name: web,", "{name: on,"),
        "{name: on",
        'Port: metadata.name: expected a string, not a boolean; quote it: "on"',
    ),
    (("{name: web,", "{name: [web],"), "{name: [web", "Port: metadata.name: expected a string, not a list"),
    (
        ("kind: LogicalNetwork", "kind: LogicalNetwerk\n---\nkind: LogicalNetwork"),
        "Netwerk",
        "kind: 'LogicalNetwerk' is not a kind; did you mean LogicalNetwork?",
    ),
    (
        ("kind: LogicalNetwork", "kind: port\n---\nkind: LogicalNetwork"),
        "kind: port",
        "kind: 'port' is not a kind; did you mean Port?",
    ),
    (
        ("kind: LogicalNetwork", "kind: Deployment\n---\nkind: LogicalNetwork"),
        "Deployment",
        f"kind: 'Deployment' is not a kind; supported: {KINDS}",
    ),
    (("kind: LogicalNetwork", "spec: {}\n---\nkind: LogicalNetwork"), "spec: {}", "kind: missing"),
    (("kind: LogicalNetwork", "- 1\n---\nkind: LogicalNetwork"), "- 1", "expected a mapping, not an integer"),
    (
        ("kind: LogicalNetwork", "apiVersion: isolane/v2\nkind: LogicalNetwork"),
        "v2",
        "LogicalNetwork fabric: apiVersion: 'isolane/v2' is not isolane/v1",
    ),
    # form
    (
        ("spec: {logicalNetwork: fabric}", "spec: fabric"),
        "spec: fabric",
        "VMNetwork blue/Blue_VMNet: spec: expected a mapping, not a string",
    ),
    (
        ("spec: {logicalNetwork: fabric}", ""),
        "kind: VMNetwork",
        "VMNetwork blue/Blue_VMNet: spec: missing",
    ),
    (
        ("spec: {logicalNetwork: fabric}", "spec: {}"),
        "spec: {}",
        "VMNetwork blue/Blue_VMNet: spec.logicalNetwork: missing",
    ),
    (
        ("spec: {logicalNetwork: fabric}", "spec: {logicalNetwork: }"),
        "spec: {l",
        "VMNetwork blue/Blue_VMNet: spec.logicalNetwork: missing",
    ),
    (
        (WEB_CA, 'adresses: [10.1.1.10, "fd00:1:1::10"]\n  ' + WEB_CA),
        "adresses",
        "Port blue/web: spec.adresses: unknown field; did you mean addresses?",
    ),
    (
        (WEB_CA, "addresses: 10.1.1.10"),
        "addresses: 10.1.1.10",
        "Port blue/web: spec.addresses: expected a list, not a string",
    ),
    (
        (WEB_CA, f"{WEB_CA}\n  host: h2"),
        'host: h2\n  mac: "02:bb:00:00:00:10',
        "Port blue/web: spec.host: stated twice, first on line 62",
    ),
    (
        (WEB_ATTACH, "attach: {tap: eth0, tap: eth1, netns: blue-web}"),
        "eth1",
        "Port blue/web: spec.attach.tap: stated twice, first on line 66",
    ),
    ((WEB_CA, "<<: {host: h2}\n  " + WEB_CA), "<<", "Port blue/web: spec.<<: unknown field"),
    (
        (WEB_CA, "? [host]\n  : h2\n  " + WEB_CA),
        "? [host]",
        "Port blue/web: spec: expected a string as key, not a list",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: []"),
        "prefixes: []",
        "VMSubnet blue/Blue2: spec.prefixes: empty",
    ),
    (
        ("    - prefix: 192.168.77.0/24\n", "    - rack\n    - prefix: 192.168.77.0/24\n"),
        "- rack",
        "NetworkSite rack1: spec.subnets[0]: expected a mapping, not a string",
    ),
    # values
    (
        (WEB_CA, "addresses: [10.1.1.999]"),
        "999",
        "Port blue/web: spec.addresses[0]: '10.1.1.999' is not an IPv4 or IPv6 address",
    ),
    (
        (WEB_CA, "addresses: [10.1.1.10,\n    10.1.1.010]"),
        "10.1.1.010",
        "Port blue/web: spec.addresses[1]: '10.1.1.010' is not an IPv4 or IPv6 address",
    ),
    (
        (WEB_CA, "addresses: [10.1]"),
        "[10.1]",
        'Port blue/web: spec.addresses[0]: expected a string, not a number; quote it: "10.1"',
    ),
    ((WEB_CA, "addresses: [~]"), "[~]", "Port blue/web: spec.addresses[0]: expected a string, not nothing"),
    (
        (WEB_CA, "addresses: [224.0.0.5]"),
        "224",
        "Port blue/web: spec.addresses[0]: '224.0.0.5' can't be used: multicast",
    ),
    (
        (WEB_CA, 'addresses: ["fe80::10"]'),
        "fe80",
        "Port blue/web: spec.addresses[0]: 'fe80::10' can't be used: link-local",
    ),
    (
        (WEB_CA, 'addresses: ["fd00::1%eth0"]'),
        "%eth0",
        "Port blue/web: spec.addresses[0]: 'fd00::1%eth0' has a zone, which means nothing here",
    ),
    (
        (WEB_CA, 'addresses: ["::ffff:10.1.1.10"]'),
        "::ffff",
        "Port blue/web: spec.addresses[0]: '::ffff:10.1.1.10' can't be used: IPv4-mapped",
    ),
    (
        (WEB_MAC, 'mac: "02:bb:00:00:00"'),
        '02:bb:00:00:00"',
        "Port blue/web: spec.mac: '02:bb:00:00:00' is not a MAC: six hex octets such as 02:00:00:00:00:01",
    ),
    (
        (WEB_MAC, 'mac: "02:bb-00:00:00:10"'),
        "02:bb-",
        "Port blue/web: spec.mac: '02:bb-00:00:00:10' is not a MAC: six hex octets such as 02:00:00:00:00:01",
    ),
    (
        (WEB_MAC, 'mac: "03:bb:00:00:00:10"'),
        "03:bb",
        "Port blue/web: spec.mac: '03:bb:00:00:00:10' is a multicast MAC",
    ),
    (
        (WEB_MAC, 'mac: "00:00:00:00:00:00"'),
        "00:00:00:00:00:00",
        "Port blue/web: spec.mac: '00:00:00:00:00:00' is no device's MAC",
    ),
    (
        (WEB_MAC, f'mac: "{ROUTER_MAC.upper()}"'),
        ROUTER_MAC.upper(),
        f"Port blue/web: spec.mac: '{ROUTER_MAC.upper()}' is the virtual router's MAC",
    ),
    (
        ("02:00:00:00:77:01", ROUTER_MAC),
        ROUTER_MAC,
        f"Host h1: spec.underlay.mac: '{ROUTER_MAC}' is the virtual router's MAC",
    ),
    (
        ("vsid: 5001", "vsid: 4095"),
        "4095",
        "VMSubnet blue/Blue1: spec.vsid: 4095 is not a VSID: 4096..16777214",
    ),
    (
        ("vsid: 5001", "vsid: 0xFFFFFF"),
        "0xFFFFFF",
        "VMSubnet blue/Blue1: spec.vsid: 16777215 is not a VSID: 4096..16777214",
    ),
    (
        ("vsid: 5001", "vsid: '5001'"),
        "vsid: '",
        "VMSubnet blue/Blue1: spec.vsid: expected an integer, not a string",
    ),
    (
        ("vsid: 5001", "vsid: 1:23:21"),
        "vsid: 1:",
        "VMSubnet blue/Blue1: spec.vsid: expected an integer, not the base-60 number 1:23:21",
    ),
    (
        ("translation: rewrite", "translation: vxlan"),
        "vxlan",
        "VMSubnet blue/Blue1: spec.translation: 'vxlan' is none of: nvgre, rewrite",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0]"),
        "[10.1.2.0]",
        "VMSubnet blue/Blue2: spec.prefixes[0]: '10.1.2.0' is not a prefix: ADDRESS/LENGTH",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.1/24]"),
        "[10.1.2.1/24]",
        "VMSubnet blue/Blue2: spec.prefixes[0]:"
        " '10.1.2.1/24' has bits set behind the prefix length; meant is 10.1.2.0/24?",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/33]"),
        "/33",
        "VMSubnet blue/Blue2: spec.prefixes[0]: '10.1.2.0/33' is not an IPv4 or IPv6 prefix",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/255.255.255.0]"),
        "/255",
        "VMSubnet blue/Blue2: spec.prefixes[0]: '10.1.2.0/255.255.255.0' is not an IPv4 or IPv6 prefix",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/31]"),
        "/31",
        "VMSubnet blue/Blue2: spec.prefixes[0]: '10.1.2.0/31' is too small for a subnet: /30 or shorter",
    ),
    (
        ("prefixes: [10.1.2.0/24]", "prefixes: [0.0.0.0/0]"),
        "0.0.0.0/0",
        "VMSubnet blue/Blue2: spec.prefixes[0]: '0.0.0.0/0' can't be used: it holds 0.0.0.0/8, this network",
    ),
    (
        ("192.168.77.100-192.168.77.250", "192.168.77.100"),
        "paPool: 192",
        "NetworkSite rack1: spec.subnets[0].paPool: '192.168.77.100' is not a range: FIRST-LAST",
    ),
    (
        ("192.168.77.100-192.168.77.250", "192.168.77.250-192.168.77.100"),
        "paPool: 192",
        "NetworkSite rack1: spec.subnets[0].paPool: '192.168.77.250-192.168.77.100' ends before it begins",
    ),
    (
        ("192.168.77.100-192.168.77.250", "192.168.77.250-fd77::1"),
        "paPool: 192",
        "NetworkSite rack1: spec.subnets[0].paPool: '192.168.77.250-fd77::1' mixes IPv4 and IPv6",
    ),
    (
        ("managed: false", "managed: 0"),
        "managed: 0",
        "Host ovs1: spec.managed: expected true or false, not an integer",
    ),
    # devices
    (("interface: u1, ", ""), '77:01", mtu', "Host h1: spec.underlay.interface: missing"),
    (
        ('  underlay: {interface: u1, mac: "02:00:00:00:77:01", mtu: 1600}\n', ""),
        "spec:\n  site: rack1\n  providerAddresses: [192.168.77.101]\n---",
        "Host h1: spec.underlay: missing",
    ),
    (
        ("interface: u1", "interface: underlay-device-1"),
        "underlay-device-1",
        "Host h1: spec.underlay.interface:"
        " 'underlay-device-1' is longer than 15 characters, the limit for interface names",
    ),
    (
        ("interface: u1", "interface: tap%d"),
        "tap%d",
        "Host h1: spec.underlay.interface: 'tap%d' is not an interface name",
    ),
    (
        ('77:01", mtu: 1600', '77:01", mtu: 65536'),
        "65536",
        "Host h1: spec.underlay.mtu: 65536 is not an MTU: 1..65535",
    ),
    (
        ('77:01", mtu: 1600', '77:01", driver: dpdk'),
        "dpdk",
        "Host h1: spec.underlay.driver: 'dpdk' is none of: auto, afxdp, packet",
    ),
    (
        (WEB_ATTACH, "attach: {tap: eth0, device: eth1}"),
        "eth1",
        "Port blue/web: spec.attach: expected one of tap, veth, device, not tap and device",
    ),
    (
        (WEB_ATTACH, "attach: {netns: blue-web}"),
        "attach: {netns",
        "Port blue/web: spec.attach: expected one of tap, veth, device, not none",
    ),
    (
        (WEB_ATTACH, "attach: {veth: eth0}"),
        "{veth: eth0}",
        "Port blue/web: spec.attach.netns: missing: a veth needs a network namespace for its other end",
    ),
    (
        (WEB_ATTACH, "attach: {tap: vnet7}"),
        "{tap: vnet7}",
        "Port blue/web: spec.attach.netns: missing: the VM of a tap is the kernel of its network namespace, "
        "which must not be the host's own; for a hypervisor's TAP use device: NAME instead",
    ),
    *(
        (
            (WEB_ATTACH, f"attach: {{{kind}: {name}{netns}}}"),
            f"{kind}: {name}",
            f"Port blue/web: spec.attach.{kind}: {name!r} is reserved by the kernel",
        )
        for kind, netns in (("tap", ", netns: blue-web"), ("veth", ", netns: blue-web"), ("device", ""))
        for name in ("lo", "all", "default")
    ),
    (
        ("interface: u1", "interface: lo"),
        "interface: lo",
        "Host h1: spec.underlay.interface: 'lo' is reserved by the kernel",
    ),
    (
        (WEB_ATTACH, "attach: {device: eth0, netns: blue-web}"),
        "{device",
        "Port blue/web: spec.attach.netns: a device that exists is looked for in the host's own namespace",
    ),
    (
        (WEB_ATTACH, "attach: {tap: eth0, netns: ../x}"),
        "../x",
        f"Port blue/web: spec.attach.netns: '../x' is not a name: {NAME_RULE}",
    ),
]


@pytest.mark.parametrize(("edit", "at", "expected"), MALFORMED, ids=[row[2][:70] for row in MALFORMED])
def test_malformed(edit: tuple[str, str], at: str, expected: str, tmp_path: Path) -> None:
    text = edited(edit)
    assert text.count(at) == 1
    line = text[: text.index(at)].count("\n") + 1
    found = problems(text, tmp_path)
    assert f"net.yaml:{line}: {expected}" in found
    dangling = [problem for problem in found if "there is no" in problem]
    assert len(found) == 1 + len(dangling), "nothing else is wrong, but for references to what has no name"


def test_example_states_what_it_says(tmp_path: Path) -> None:
    """Every field of every kind."""
    driver = ('77:01", mtu: 1600', '77:01", mtu: 1700, driver: afxdp')
    intent, found = manifest.read([write(edited(driver), tmp_path)])
    assert not found
    assert intent.logical_networks == (LogicalNetwork("fabric"),)
    assert intent.sites == (
        NetworkSite(
            "rack1",
            "fabric",
            (
                SiteSubnet(
                    ip_network("192.168.77.0/24"),
                    AddressRange(ip_address("192.168.77.100"), ip_address("192.168.77.250")),
                    ip_address("192.168.77.1"),
                    Mac("02:00:00:00:77:fe"),
                ),
                SiteSubnet(
                    ip_network("fd77::/64"), AddressRange(ip_address("fd77::100"), ip_address("fd77::250"))
                ),
            ),
        ),
    )
    h1, _, ovs1 = intent.hosts
    assert h1 == Host(
        "h1",
        "rack1",
        (ip_address("192.168.77.101"),),
        Underlay("u1", Mac("02:00:00:00:77:01"), 1700, Driver.AFXDP),
    )
    assert ovs1.underlay == Underlay(mac=Mac("02:00:00:00:77:09"))
    assert not ovs1.managed
    assert intent.vm_networks == (VMNetwork("blue", "Blue_VMNet", "fabric"),)
    blue1, blue2 = intent.vm_subnets
    assert blue1 == VMSubnet(
        "blue",
        "Blue1",
        "Blue_VMNet",
        (ip_network("10.1.1.0/24"), ip_network("fd00:1:1::/64")),
        vsid=5001,
        translation=Translation.REWRITE,
    )
    assert (blue2.gateways, blue2.translation) == ((ip_address("10.1.2.254"),), Translation.NVGRE)
    app, db, web = intent.ports
    assert web == Port(
        "blue",
        "web",
        "Blue1",
        "h1",
        (ip_address("10.1.1.10"), ip_address("fd00:1:1::10")),
        Mac("02:bb:00:00:00:10"),
        (ip_address("192.168.77.110"), ip_address("fd77::110")),
        attach=Attach(AttachKind.TAP, "eth0", "blue-web"),
    )
    assert app.attach == Attach(AttachKind.VETH, "eth0", "blue-app")
    assert (db.allowed_sources, db.attach) == ((ip_network("10.9.0.0/16"),), None)


def write(text: str, directory: Path, name: str = "net.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """Form, references and rules, of several files, in the order of files and lines."""
    one = write(
        edited(("vsid: 5001", "vsid: 1"), ("site: rack1\n  managed", "site: rack9\n  managed")), tmp_path, "a"
    )
    two = write(
        "kind: Lookup\nmetadata: {name: blue}\n---\nkind: Host\nmetadata: {name: h9}\n", tmp_path, "b"
    )
    with pytest.raises(ManifestError) as caught:
        manifest.load([two, one])
    assert [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        "a:33: Host ovs1: spec.site: there is no NetworkSite rack9",
        "a:47: VMSubnet blue/Blue1: spec.vsid: 1 is not a VSID: 4096..16777214",
        "b:1: kind: 'Lookup' is not a kind; did you mean LookupRecord?",
        "b:4: Host h9: spec: missing",
    ]


@pytest.mark.parametrize("files", [1, 2])
def test_identity_stated_twice(files: int, tmp_path: Path) -> None:
    start = BASE.index("kind: Port\nmetadata: {name: db")
    if files == 1:
        found = problems(f"{BASE}---\n{BASE[start:]}", tmp_path)
        second = "net.yaml:87"
    else:
        with pytest.raises(ManifestError) as caught:
            manifest.load([write(BASE, tmp_path), write(BASE[start:], tmp_path, "more.yaml")])
        found = [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]
        second = "more.yaml:2"
    assert found == [f"{second}: Port blue/db: metadata.name: already stated at net.yaml:78"]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"kind: Host\nspec: {a: [\n", 3, "while parsing a flow node, did not find expected node content"),
        (b"kind: Host\nspec: *anchor\n", 2, "found undefined alias"),
        (b"kind: Host\n\xff: 1\n", 2, "unacceptable character #x00ff: invalid leading UTF-8 octet"),
        (b"kind:\n" + b" - " + b"[" * 500, 2, "nested too deeply"),
        (b"\n" + b"- " * 100_000, 2, "nested too deeply"),
    ],
)
def test_not_yaml(content: bytes, line: int, reason: str, tmp_path: Path) -> None:
    """A file that can't be read hides what others refer to: only form is reported then."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        manifest.load(
            [path, write("kind: Host\nmetadata: {name: h1}\nspec: {site: rack1, managed: no}", tmp_path)]
        )
    assert [str(problem) for problem in caught.value.problems] == [f"{path}:{line}: not YAML: {reason}"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: No such file or directory$"):
        manifest.load([tmp_path / "none.yaml"])


def test_recursive_anchor_ends(tmp_path: Path) -> None:
    assert problems("kind: Host\nmetadata: {name: h1}\nspec: &a\n  site: x\n  underlay: *a\n", tmp_path) == [
        "net.yaml:4: Host h1: spec.site: there is no NetworkSite x",
        "net.yaml:4: Host h1: spec.underlay.site: unknown field",
        "net.yaml:5: Host h1: spec.underlay.interface: missing",
        "net.yaml:5: Host h1: spec.underlay.underlay: unknown field",
    ]


@pytest.mark.parametrize("mac", ["10:20:30:40:50:60", "10-20-30-40-50-60", "0A:20:30:40:50:FF"])
def test_unquoted_mac(mac: str, tmp_path: Path) -> None:
    """YAML 1.1 reads the first one as a number to base 60."""
    policy = load(edited((WEB_MAC, f"mac: {mac}")), tmp_path)
    assert policy.ports[-1].mac == mac.lower().replace("-", ":")


def test_empty_documents_and_stated_version(tmp_path: Path) -> None:
    text = "---\n---\n" + BASE.replace("kind:", "apiVersion: isolane/v1\nkind:") + "---\n# nothing\n---\n"
    assert load(text, tmp_path) == load(BASE, tmp_path)


def test_json_is_yaml(tmp_path: Path) -> None:
    text = BASE + '---\n{"kind": "LogicalNetwork", "metadata": {"name": "dmz"}, "spec": {}}\n'
    assert [network.name for network in load(text, tmp_path).logical_networks] == ["dmz", "fabric"]


def test_a_list_is_one_of_documents(tmp_path: Path) -> None:
    text = '[{"kind": "LogicalNetwork", "metadata": {"name": "a"}},\n {"kind": "Tenant", "metadata": {}}]\n'
    stated, found = manifest.read([write(text, tmp_path, "list.json")])
    assert list(stated.by_id) == [ObjectId("LogicalNetwork", "", "a")]
    assert list(map(str, found)) == [f"{tmp_path}/list.json:2: Tenant: metadata.name: missing"]
    assert manifest.read([write("[]", tmp_path, "list.json")])[0].by_id == {}


def test_what_get_adds_is_passed_over(tmp_path: Path) -> None:
    added = "{name: fabric}\nallocated: {vsid: [x], no: field}\nrevision: 7\n---"
    assert load(edited(("{name: fabric}\n---", added)), tmp_path) == load(BASE, tmp_path)
    within = edited(("{name: fabric}\n---", "{name: fabric, revision: 7}\n---"))
    assert "metadata.revision: unknown field" in problems(within, tmp_path)[0]


def test_policy_is_its_content(tmp_path: Path) -> None:
    """Equal and of one hash whatever the order of documents, different when one value differs."""
    documents = BASE.split("---\n")
    shuffled = write(
        "---\n".join(reversed([text.rstrip() + "\n" for text in documents])), tmp_path, "other.yaml"
    )
    one, other = load(BASE, tmp_path), manifest.load([shuffled])
    assert one == other
    assert hash(one) == hash(other)
    assert one != load(edited(("vsid: 5001", "vsid: 5003")), tmp_path)


def test_problems_point_into_a_loaded_policy(tmp_path: Path) -> None:
    """What is found later still has its line: of the field, or of the nearest one around it."""
    policy = load(BASE, tmp_path)
    web = ObjectId("Port", "blue", "web")
    path = str(tmp_path / "net.yaml")
    located = [
        policy.problem(web, field, "").location for field in ("spec.addresses[1]", "spec.x.y[2].z", "x", "")
    ]
    assert located == [Location(path, 63), Location(path, 60), Location(path, 58), Location(path, 58)]


def test_example_loads() -> None:
    policy = manifest.load([EXAMPLE])
    assert {host.name for host in policy.hosts} == {"h1", "h2"}
    blue = {port.addresses: port.mac for port in policy.ports if port.tenant == "blue"}
    red = {port.addresses: port.mac for port in policy.ports if port.tenant == "red"}
    assert red.items() <= blue.items(), "Red has the same addresses and MACs as Blue"
    assert all(len(port.addresses) == 2 for port in policy.ports)
    kinds = {(port.tenant, port.attach.kind) for port in policy.ports if port.attach}
    assert kinds == {
        (tenant, kind) for tenant in ("blue", "red") for kind in (AttachKind.TAP, AttachKind.VETH)
    }


yaml_text = st.recursive(
    st.sampled_from(
        ["Host", "h1", "[", "kind", "*a", "&a", "~", "1", "!!set", "'", "10.1.1.1", "|", "\x00", "é"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: " ".join(parts) + "\n")
        | st.tuples(st.sampled_from(["kind", "metadata", "spec", "name", "subnets", "-"]), inner).map(
            ": ".join
        )
        | inner.map("{{{}}}".format)
        | inner.map("---\n{}\n".format)
    ),
    max_leaves=12,
)


@given(yaml_text | st.text(max_size=60) | st.binary(max_size=60))
def test_anything_is_a_policy_or_a_manifest_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        manifest.load([path])
    except ManifestError as error:
        assert error.problems
        assert all(problem.location for problem in error.problems)
