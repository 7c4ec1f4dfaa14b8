"""`describe`."""

import json
import re
import shlex
from xml.etree import ElementTree

import pytest

from policy.store.locations import open_store
from tests.unit.manifests import EXAMPLE
from tests.unit.tools.shell import MINE, Shell


def test_describe(applied: Shell) -> None:
    lines = applied("describe", "port", "blue-web").stdout.splitlines()
    assert lines[0].startswith("Port blue/blue-web: A VM's network interface.")
    assert any(
        line.startswith("provider addresses: 192.168.77.") and line.endswith("(allocated)") for line in lines
    )
    assert "host h1: no agent is there" in lines
    store = open_store(applied.location)
    for host, state in (
        ("h1", {"revision": 0, "state": "applied", "problems": []}),
        ("h2", {"revision": 1, "state": "failed", "problems": ["u2: is down"]}),
    ):
        store.commit({f"host/{host}": json.dumps(state).encode()})
    store.close()
    lines = applied("describe", "vmsubnet", "Red_VMSubnet1").stdout.splitlines()
    assert "used by: Port red/red-web" in lines
    assert lines[-3:-1] == ["host h1: pending", "host h2: failed: u2: is down"]
    assert re.fullmatch(r"event \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: apply: 17 created", lines[-1])


def test_describe_tells_the_newest_events(applied: Shell) -> None:
    for number in range(12):
        applied("apply", "-f", applied.file("mine.yaml", MINE.replace("front", f"front{number}")))

    def events_of(*words: str) -> list[str]:
        lines = applied("describe", "port", "mine", *words).stdout.splitlines()
        return [line for line in lines if "event" in line]

    shown = events_of()
    assert shown[0] == "older events: 2 are left out, --events 12 prints them too"
    assert len(shown) == 11 and all(line.endswith("apply: 1 changed") for line in shown[1:])
    every = events_of("--events", "12")
    assert every[0].endswith("apply: 1 created") and every[2:] == shown[1:]
    assert events_of("--events", "1")[1:] == shown[-1:]
    assert events_of("--events", "0") == []


def test_what_holds_where_nothing_is_stated(applied: Shell) -> None:
    assert "translation: nvgre (default)" in applied("describe", "vmsubnet", "Red_VMSubnet1").stdout
    assert "translation: rewrite\n" in applied("describe", "vmsubnet", "Blue_VMSubnet1").stdout
    assert "managed: yes (default)" in applied("describe", "host", "h1").stdout
    route = """\
kind: CustomerRoute
metadata: {name: far, tenant: blue}
spec: {vmNetwork: Blue_VMNet, prefix: 10.9.0.0/16, nextHop: 10.1.1.10}
"""
    applied("apply", "-f", "-", stdin=route)
    heading, row = applied("get", "customerroutes", "-o", "wide").stdout.splitlines()
    assert heading.endswith("METRIC  VSID  AGE") and row.split()[-3:-1] == ["0", "-"]
    lines = applied("describe", "customerroute", "far").stdout.splitlines()
    assert "metric: 0 (default)" in lines and not any("virtual subnet" in line for line in lines)


@pytest.mark.parametrize("underlay", [1500, 1600])
@pytest.mark.parametrize(
    ("attach", "target", "more"),
    [
        ("{vm: vm0, user: libvirt-qemu}", "dev='vm0' managed='no'", ("", "", [])),
        ("{device: vm0}", "dev='vm0'", ("", "", [])),
        (
            "{vm: vm0, queues: 4}",
            "dev='vm0' managed='no'",
            (",queues=4", ",mq=on,vectors=10", ["    <driver name='qemu' queues='4'/>"]),
        ),
    ],
)
def test_what_to_tell_a_hypervisor(
    shell: Shell, attach: str, target: str, more: tuple[str, str, list[str]], underlay: int
) -> None:
    text = EXAMPLE.read_text().replace("mtu: 1600", f"mtu: {underlay}")
    stated = text.replace("{tap: eth0, netns: red-web}", attach)
    assert stated != text
    shell("apply", "-f", shell.file("net.yaml", stated))
    lines = shell("describe", "port", "red/red-web").stdout.splitlines()
    at, mtu = lines.index("QEMU:"), min(underlay - 42, 1500)
    netdev, device, libvirt = more
    assert lines[at : at + 10 + len(libvirt)] == [
        "QEMU:",
        f"  -netdev tap,id=net-red-web,ifname=vm0,script=no,downscript=no,vhost=off{netdev}",
        f"  -device virtio-net-pci,netdev=net-red-web,mac=02:bb:00:00:00:10,host_mtu={mtu}{device}",
        "libvirt:",
        "  <interface type='ethernet'>",
        "    <mac address='02:bb:00:00:00:10'/>",
        f"    <target {target}/>",
        "    <model type='virtio'/>",
        *libvirt,
        f"    <mtu size='{mtu}'/>",
        "  </interface>",
    ]
    assert "QEMU:" not in shell("describe", "port", "red/red-app").stdout


def test_the_name_of_a_device_is_what_it_is_to_everybody(shell: Shell) -> None:
    attach = '{device: "a,b<$c\'"}'
    text = EXAMPLE.read_text().replace("{tap: eth0, netns: red-web}", attach)
    shell("apply", "-f", shell.file("net.yaml", text))
    lines = shell("describe", "port", "red/red-web").stdout.splitlines()
    [option, value] = shlex.split(next(line for line in lines if "-netdev" in line))
    assert (option, value.split(",ifname=")[1].split(",script")[0]) == ("-netdev", "a,,b<$c'")
    xml = "\n".join(lines[lines.index("libvirt:") + 1 :]).partition("</interface>")
    [target] = ElementTree.fromstring(xml[0] + xml[1]).findall("target")
    assert target.get("dev") == "a,b<$c'"


def test_a_port_that_waits_for_its_vm(applied: Shell) -> None:
    store = open_store(applied.location)
    state = {"revision": 1, "state": "applied", "problems": []}
    links = {"links": {"blue/blue-web": "waiting"}}
    store.commit({"host/h1": json.dumps(state).encode(), "links/h1": json.dumps(links).encode()})
    store.close()
    lines = applied("describe", "port", "blue-web").stdout.splitlines()
    assert "link: waiting, for its VM: no hypervisor has made its device, or opened it" in lines
    heading, row = applied("get", "port", "blue-web").stdout.splitlines()
    assert row[heading.index("STATE") :].split()[0] == "waiting"
    assert "host h1: applied" in applied("describe", "vmsubnet", "Blue_VMSubnet1").stdout


def test_the_link_of_a_port(applied: Shell) -> None:
    def lines(
        revision: int = 1, identity: tuple[str, str] = ("port", "blue-web"), **said: object
    ) -> list[str]:
        store = open_store(applied.location)
        state = {"revision": revision, "state": "applied", "problems": []}
        links = {"links/h1": json.dumps(said).encode()} if said else {}
        store.commit({"host/h1": json.dumps(state).encode(), **links})
        store.close()
        shown = applied("describe", *identity).stdout.splitlines()
        return [line for line in shown if line.startswith(("link", "unlisted"))]

    assert lines() == [], "an agent that says nothing of links"
    assert lines(links={}) == ["link: up"]
    assert lines(revision=0, links={}) == []
    said = lines(links={"blue/blue-web": "no carrier"})
    assert said == ["link: no carrier, nobody has its other end, or has that down"]
    got = json.loads(applied("get", "port", "blue-web", "-o", "json").stdout)
    assert got["status"]["link"] == "no carrier"
    heading, *rows = applied("get", "ports", "-o", "wide").stdout.splitlines()
    at = heading.index("LINK")
    assert heading[at:].split() == ["LINK", "AGE"]
    assert {row[at : at + 10].strip() for row in rows} == {"up", "no carrier", "-"}
    more = "unlisted: 1200 links of host h1 that are not up, for want of room"
    assert lines(links={"blue/blue-web": "down"}, unlisted=1200) == ["link: down, set so, by the VM perhaps"]
    assert lines(identity=("host", "h1"), links={}, unlisted=1200) == [more]
    link, unlisted = lines(links={}, unlisted=1200)
    assert link.startswith("link: unknown, ") and unlisted == more
    got = json.loads(applied("get", "port", "blue-web", "-o", "json").stdout)
    assert (got["status"]["link"], got["status"]["linksUnlisted"]) == ("unknown", 1200)
