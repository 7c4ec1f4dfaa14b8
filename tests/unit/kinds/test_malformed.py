"""Every way in which a document can be wrong, with file, line and field path."""

from pathlib import Path

import pytest

from policy.errors import ManifestError
from policy.kinds.model import ROUTER_MAC
from policy.service import resolve
from tests.unit.manifests import edited, problems

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
    (
        ("kind: LogicalNetwork", "knid: LogicalNetwork\n---\nkind: LogicalNetwork"),
        "knid",
        "knid: unknown field; did you mean kind?",
    ),
    (
        ("{name: web,", f"{{name: long{'w' * 296},"),
        "long",
        f"Port: metadata.name: 'long{'w' * 66}'… (300 characters) is not a name: {NAME_RULE}",
    ),
    # form
    (
        (
            "vmNetwork: Blue_VMNet\n  prefixes: [10.1.2.0/24]",
            "vmnetwork: Blue_VMNet\n  prefixes: [10.1.2.0/24]",
        ),
        "vmnetwork",
        "VMSubnet blue/Blue2: spec.vmnetwork: unknown field; did you mean vmNetwork?",
    ),
    (
        (WEB_CA, f"long{'x' * 296}: 1\n  {WEB_CA}"),
        "long",
        f"Port blue/web: spec.long{'x' * 61}… (305 characters): unknown field",
    ),
    (
        (WEB_CA, f'"\\e[2J": 1\n  {WEB_CA}'),
        "[2J",
        "Port blue/web: spec.\\x1b[2J: unknown field",
    ),
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
        "VMSubnet blue/Blue1: spec.vsid: expected decimal digits, not the hexadecimal number 0xFFFFFF",
    ),
    (
        ("vsid: 5001", "vsid: '5001'"),
        "vsid: '",
        "VMSubnet blue/Blue1: spec.vsid: expected an integer, not a string",
    ),
    (
        ("vsid: 5001", "vsid: 1:23:21"),
        "vsid: 1:",
        "VMSubnet blue/Blue1: spec.vsid: expected decimal digits, not the base-60 number 1:23:21",
    ),
    *(
        (
            ("vsid: 5001", f"vsid: {number}"),
            f"vsid: {number}",
            f"VMSubnet blue/Blue1: spec.vsid: expected decimal digits, not {what} {number}",
        )
        for number, what in (
            ("010001", "the octal number"),
            ("0b1001110001001", "the binary number"),
            ("5_001", "digits with underscores:"),
            ("+5001", "a sign:"),
        )
    ),
    (("vsid: 5001", "vsid: 5e3"), "5e3", "VMSubnet blue/Blue1: spec.vsid: expected an integer, not a string"),
    (("vsid: 5001", "vsid: 0"), "vsid: 0", "VMSubnet blue/Blue1: spec.vsid: 0 is not a VSID: 4096..16777214"),
    (
        ("vsid: 5001", f"vsid: {'9' * 5000}"),
        "vsid: 99",
        f"VMSubnet blue/Blue1: spec.vsid: {'9' * 70}… (5000 characters) is out of all bounds",
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
        (WEB_ATTACH, "attach: {tap: eth0, netns: blue-web, spin: always}"),
        "always",
        "Port blue/web: spec.attach.spin: 'always' is none of: auto, never",
    ),
    (
        (WEB_ATTACH, "attach: {tap: eth0, device: eth1}"),
        "eth1",
        "Port blue/web: spec.attach: expected one of tap, veth, device, vm, not tap and device",
    ),
    (
        (WEB_ATTACH, "attach: {netns: blue-web}"),
        "attach: {netns",
        "Port blue/web: spec.attach: expected one of tap, veth, device, vm, not none",
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
        "which must not be the host's own; for a hypervisor's TAP use vm: NAME instead",
    ),
    *(
        (
            (WEB_ATTACH, f"attach: {{{kind}: {name}{netns}}}"),
            f"{kind}: {name}",
            f"Port blue/web: spec.attach.{kind}: {name!r} is reserved by the kernel",
        )
        for kind, netns in (
            ("tap", ", netns: blue-web"),
            ("veth", ", netns: blue-web"),
            ("device", ""),
            ("vm", ""),
        )
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
        (WEB_ATTACH, "attach: {vm: vm0, netns: blue-web}"),
        "{vm",
        "Port blue/web: spec.attach.netns: a hypervisor opens its TAP in the host's own namespace",
    ),
    *(
        (
            (WEB_ATTACH, f"attach: {{device: vm0, {field}}}"),
            "{device",
            f"Port blue/web: spec.attach.{field.partition(':')[0]}: means nothing without vm",
        )
        for field in ("user: nobody", "queues: 2")
    ),
    *(
        ((WEB_ATTACH, f"attach: {{vm: vm0, {field}}}"), "{vm", f"Port blue/web: spec.attach.{problem}")
        for field, problem in (
            ("user: \u017f", "user: '\u017f' is no user: a name such as libvirt-qemu, or a number"),
            ("user: a:b", "user: 'a:b' is no user: a name such as libvirt-qemu, or a number"),
            ('user: "4294967295"', "user: '4294967295' is no user: a name such as libvirt-qemu, or a number"),
            ("user: 107", 'user: expected a string, not an integer; quote it: "107"'),
            ("queues: 0", "queues: 0 is not in 1..256"),
            ("queues: 257", "queues: 257 is not in 1..256"),
            ('queues: "2"', "queues: expected an integer, not a string"),
        )
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


def test_what_is_wrong_with_many_objects_is_said_once(tmp_path: Path) -> None:
    """The text; `problems` has them all."""
    documents = [
        f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: n{number}}}\n"
        for number in range(9)
        for kind in ("LogicalNetwork", "Tenant")
    ]
    path = tmp_path / "net.yaml"
    path.write_text("---\n".join(documents[:17]))
    with pytest.raises(ManifestError) as caught:
        resolve.load([path])
    assert len(caught.value.problems) == 17
    assert str(caught.value) == (
        f"{path}:1: LogicalNetwork n0: apiVersion: 'v1' is not isolane/v1"
        f" (and 16 more, the last at {path}:65)"
    )


def test_what_is_wrong_with_few_objects_is_said_of_each(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("---\n".join(f"kind: MACPool\nmetadata: {{name: n{each}}}\n" for each in range(3)))
    with pytest.raises(ManifestError) as caught:
        resolve.load([path])
    assert str(caught.value).count(": spec: missing") == 3
