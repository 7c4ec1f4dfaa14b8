"""YAML to model: every field, and every way in which a document can be wrong, with file, line, field path."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import Location, ManifestError, ObjectId
from policy.kinds import manifest
from policy.kinds.model import (
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
    Spin,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
)
from policy.service import resolve
from tests.unit.manifests import BASE, EXAMPLE, edited, load, problems

WEB_MAC = 'mac: "02:bb:00:00:00:10"'


def test_example_states_what_it_says(tmp_path: Path) -> None:
    """Every field of every kind."""
    driver = ('77:01", mtu: 1600', '77:01", mtu: 1700, driver: afxdp, spin: never')
    attach = ("{veth: eth0, netns: blue-app}", "{veth: eth0, netns: blue-app, spin: never}")
    intent, found, _ = manifest.read([write(edited(driver, attach), tmp_path)])
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
        Underlay("u1", Mac("02:00:00:00:77:01"), 1700, Driver.AFXDP, Spin.NEVER),
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
    assert app.attach == Attach(AttachKind.VETH, "eth0", "blue-app", spin=Spin.NEVER)
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
        resolve.load([two, one])
    assert [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        "a:33: Host ovs1: spec.site: there is no NetworkSite rack9; did you mean NetworkSite rack1?",
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
            resolve.load([write(BASE, tmp_path), write(BASE[start:], tmp_path, "more.yaml")])
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
        resolve.load(
            [path, write("kind: Host\nmetadata: {name: h1}\nspec: {site: rack1, managed: no}", tmp_path)]
        )
    assert [str(problem) for problem in caught.value.problems] == [f"{path}:{line}: not YAML: {reason}"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: No such file or directory$"):
        resolve.load([tmp_path / "none.yaml"])


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
    stated, found, _ = manifest.read([write(text, tmp_path, "list.json")])
    assert list(stated.by_id) == [ObjectId("LogicalNetwork", "", "a")]
    assert list(map(str, found)) == [f"{tmp_path}/list.json:2: Tenant: metadata.name: missing"]
    assert manifest.read([write("[]", tmp_path, "list.json")])[0].by_id == {}


def test_what_get_adds_is_passed_over(tmp_path: Path) -> None:
    added = "{name: fabric, created: [x]}\ngiven: {vsid: [x], no: field}\nstatus: 7\n---"
    assert load(edited(("{name: fabric}\n---", added)), tmp_path) == load(BASE, tmp_path)


def test_the_revision_of_an_edit_is_read(tmp_path: Path) -> None:
    path = write(edited(("{name: fabric}\n---", "{name: fabric, revision: 7}\n---")), tmp_path)
    assert manifest.read([path]).expected == {ObjectId("LogicalNetwork", "", "fabric"): 7}
    assert manifest.read([write(BASE, tmp_path)]).expected == {}
    for wrong in ("-1", "x", "1.0"):
        within = edited(("{name: fabric}\n---", f"{{name: fabric, revision: {wrong}}}\n---"))
        assert ": metadata.revision: " in problems(within, tmp_path)[0]


def test_bytes_are_decoded_without_files() -> None:
    text = b"kind: LogicalNetwork\nmetadata: {name: a, revision: 3}\n"
    stated = manifest.decode([("request", text), ("other", b"kind: Tenant\nmetadata: {name: b, x: 1}\n")])
    a = ObjectId("LogicalNetwork", "", "a")
    assert list(stated.intent.by_id) == [ObjectId("Tenant", "", "b"), a] and stated.expected == {a: 3}
    assert list(map(str, stated.problems)) == ["other:2: Tenant b: metadata.x: unknown field"]
    with pytest.raises(ManifestError, match=r"request:\d: not YAML"):
        manifest.decode([("request", b"{")])


def test_policy_is_its_content(tmp_path: Path) -> None:
    """Equal and of one hash whatever the order of documents, different when one value differs."""
    documents = BASE.split("---\n")
    shuffled = write(
        "---\n".join(reversed([text.rstrip() + "\n" for text in documents])), tmp_path, "other.yaml"
    )
    one, other = load(BASE, tmp_path), resolve.load([shuffled])
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
    policy = resolve.load([EXAMPLE])
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
        resolve.load([path])
    except ManifestError as error:
        assert error.problems
        assert all(problem.location for problem in error.problems)
