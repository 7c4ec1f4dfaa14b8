"""Hosts on one wire and over one store, with processes as in production: a data plane and an agent each."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.binding import tables as dp
from dataplane.binding.tables import RowKind
from dataplane.host import links, locks, netns
from dataplane.host.device import host_end_name
from dataplane.process import instances
from dataplane.process.client import Client, ClientError
from policy.agent.programmer import known_ids
from policy.compile import compiler, diff
from policy.errors import ObjectId
from policy.kinds import documents, keys, manifest
from policy.kinds.model import AttachKind, Policy
from policy.service import changes, host_state
from policy.store.reading import snapshot_of
from policy.store.sqlite import SqliteStore
from tests.native import BIN, ROOT
from tests.netns.labs import wait_until
from tests.netns.rig import add_addresses
from tests.netns.wires import wait_for_carrier

FABRIC = """
kind: LogicalNetwork
metadata: {name: fabric}
---
kind: NetworkSite
metadata: {name: rack1}
spec:
  logicalNetwork: fabric
  subnets: [{prefix: 172.20.0.0/16, paPool: 172.20.8.0-172.20.255.0}]
---
kind: Host
metadata: {name: h1}
spec:
  site: rack1
  providerAddresses: [172.20.0.1]
  underlay: {interface: u1, mac: "02:00:00:00:77:01", mtu: 1600}
---
kind: Host
metadata: {name: h2}
spec:
  site: rack1
  providerAddresses: [172.20.0.2]
  underlay: {interface: u1, mac: "02:00:00:00:77:02", mtu: 1600}
---
kind: VMNetwork
metadata: {name: net, tenant: blue}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: sub, tenant: blue}
spec: {vmNetwork: net, prefixes: [10.0.0.0/12], vsid: 5001, translation: rewrite}
---
kind: VMNetwork
metadata: {name: net, tenant: red}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: sub, tenant: red}
spec: {vmNetwork: net, prefixes: [10.0.0.0/12], vsid: 6001, translation: nvgre}
"""

HOSTS = ("h1", "h2")
_STEADY_SECONDS = 0.4
FIRST_RUN = 20.0
"""Seconds that a command may take until it is up, on a machine that does much else."""


@dataclass(frozen=True)
class Vm:
    """A port as tests state it. name: of the namespace too."""

    name: str
    tenant: str
    host: str
    number: int
    kind: str = "tap"
    mac: str = ""
    netns: str = ""

    @property
    def address(self) -> str:
        return f"10.1.0.{self.number}"

    @property
    def manifest(self) -> str:
        mac = self.mac or f"02:bb:00:00:00:{self.number:02x}"
        return f"""
---
kind: Port
metadata: {{name: {self.name}, tenant: {self.tenant}}}
spec:
  vmSubnet: sub
  host: {self.host}
  addresses: [{self.address}]
  mac: "{mac}"
  attach: {{{self.kind}: eth0, netns: {self.netns or self.name}}}
"""


STABLE = (
    Vm("blue-web", "blue", "h1", 10),
    Vm("blue-api", "blue", "h1", 11, "veth"),
    Vm("blue-app", "blue", "h2", 20),
    Vm("red-web", "red", "h1", 10),
    Vm("red-api", "red", "h1", 11, "veth"),
    Vm("red-app", "red", "h2", 20, "veth"),
)
"""Of each tenant two on one host and one on the other."""


class Warm:
    """warm.py in a namespace."""

    def __init__(self, namespace: str | None) -> None:
        self._process = netns.call(
            namespace,
            subprocess.Popen,
            [sys.executable, "-m", "tests.netns.warm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, argv: Sequence[str], log: Path, die: dict[str, Any] | None = None) -> int:
        pid: int = self._ask({"argv": list(argv), "log": str(log), "die": die})["pid"]
        return pid

    def wait(self, pid: int) -> int:
        """The exit status, negative the signal."""
        status: int = self._ask({"wait": pid})["status"]
        return status

    def close(self) -> None:
        self._process.communicate(timeout=10)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return json.loads(line)


@dataclass
class Node:
    """A host: its data plane and its agent, if they run."""

    name: str
    namespace: str
    instance: str
    log: Path
    dataplane: "subprocess.Popen[bytes] | None" = None
    agent: "subprocess.Popen[bytes] | None" = None
    forked: int | None = None
    warm: Warm | None = None
    links: frozenset[str] = field(default_factory=frozenset)

    @property
    def dataplane_pid(self) -> int:
        assert self.dataplane is not None
        return self.dataplane.pid

    @property
    def agent_pid(self) -> int:
        pid = self.forked if self.agent is None else self.agent.pid
        assert pid is not None
        return pid


class Site:
    def __init__(
        self,
        prefix: str,
        directory: Path,
        stack: ExitStack,
        more: Sequence[Vm] = (),
        driver: str = "auto",
    ) -> None:
        """more: whose namespaces there are besides those of STABLE. driver: of underlays and veths."""
        self.prefix = prefix
        self._driver = driver
        self.directory = directory
        self.location = directory / "store.db"
        self.log = directory / "log"
        self._stack = stack
        self.nodes = {name: Node(name, f"{prefix}{name}", f"{prefix}{name}", self.log) for name in HOSTS}
        stack.callback(self._end)
        for node in self.nodes.values():
            self._make_namespace(node.namespace)
        for vm in (*STABLE, *more):
            self._make_namespace(f"{prefix}{vm.netns or vm.name}")
        self._join()
        for node in self.nodes.values():
            node.links = self._links(node.namespace)
        self.empty = self._links(f"{prefix}{STABLE[0].name}")
        self.store = SqliteStore(self.location)
        self._deleted = 0  # the last revision that left nothing by which to know it
        stack.callback(self.store.close)

    def _make_namespace(self, name: str) -> None:
        if not (netns.DIRECTORY / name).exists():
            netns.create(name)
            netns.call(name, links.set_state, "lo", "up")

    def _join(self) -> None:
        first, second = (self.nodes[name].namespace for name in HOSTS)

        def make() -> None:
            with IPRoute() as ip:
                peer = {"ifname": "u1", "address": "02:00:00:00:77:02", "net_ns_fd": str(netns.path(second))}
                ip.link("add", ifname="u1", kind="veth", address="02:00:00:00:77:01", peer=peer)

        netns.call(first, make)
        for namespace in (first, second):
            netns.call(namespace, _set_up, "u1", 1600)
        for namespace in (first, second):
            wait_for_carrier(namespace, "u1")

    def _end(self) -> None:
        for node in self.nodes.values():
            self.kill_agent(node.name)
            self.kill_dataplane(node.name)
            if node.warm is not None:
                node.warm.close()
            for directory in (
                instances.socket_path(node.instance).parent,
                locks.agent_directory(node.instance),
            ):
                with suppress(OSError):
                    for each in directory.iterdir():
                        each.unlink()
                    directory.rmdir()

    # ---- processes

    def start_dataplane(self, host: str, *options: str) -> None:
        node = self.nodes[host]
        command = [BIN / "isolane", "dataplane", "--instance", node.instance, *options]
        with node.log.open("ab") as log:
            node.dataplane = netns.call(
                node.namespace, subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill_dataplane(self, host: str) -> None:
        node = self.nodes[host]
        if node.dataplane is not None:
            node.dataplane.kill()
            node.dataplane.wait(10)
            node.dataplane = None

    def start_agent(self, host: str, *options: str) -> None:
        """The command itself."""
        node = self.nodes[host]
        command = [BIN / "isolane", *self._agent_argv(host), *options]
        with node.log.open("ab") as log:
            node.agent = netns.call(
                node.namespace, subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def fork_agent(self, host: str, die: dict[str, Any] | None = None, *options: str) -> None:
        """From a process that has imported all of it."""
        node = self.nodes[host]
        if node.warm is None:
            node.warm = Warm(node.namespace)
        node.forked = node.warm.start([*self._agent_argv(host), *options], node.log, die)

    def _agent_argv(self, host: str) -> list[str]:
        node = self.nodes[host]
        where = ["--host", host, "--instance", node.instance, "--netns-prefix", self.prefix]
        return ["agent", "--store", str(self.location), *where]

    def kill_agent(self, host: str) -> None:
        self.end_agent(host, signal.SIGKILL)

    def end_agent(self, host: str, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Its exit status, negative the signal; None: there was none."""
        node = self.nodes[host]
        status = None
        if node.agent is not None:
            node.agent.send_signal(number)
            status = node.agent.wait(10)
        elif node.forked is not None and node.warm is not None:
            os.kill(node.forked, number)
            status = node.warm.wait(node.forked)
        node.agent = node.forked = None
        return status

    def up(self, *options: str) -> None:
        """All of it, with the fabric and the stable VMs in the store."""
        self.commit(FABRIC + "".join(vm.manifest for vm in STABLE))
        for host in HOSTS:
            self.start_dataplane(host)
            self.start_agent(host, *options)
        self.settle(FIRST_RUN)
        for vm in STABLE:
            self.set_up(vm)

    def set_up(self, vm: Vm) -> None:
        """What a VM's own system would do when it finds its device."""
        namespace = f"{self.prefix}{vm.netns or vm.name}"
        with suppress(NetlinkError):  # it has it already
            add_addresses(namespace, "eth0", f"{vm.address}/12")

    # ---- intent

    def driven(self, text: str) -> str:
        """A manifest with the driver of this site."""
        text = text.replace("mtu: 1600}", f"mtu: 1600, driver: {self._driver}}}")
        return text.replace("{veth: ", f"{{driver: {self._driver}, veth: ")

    def commit(self, text: str) -> int:
        path = self.directory / "intent.yaml"
        path.write_text(self.driven(text))
        return changes.commit(self.store, changes.apply(*manifest.read([path])))[0]

    def change(self, vm: Vm, manifest: str | None) -> None:
        """None: it is deleted."""
        if manifest is not None:
            self.commit(manifest)
        else:
            self.delete([ObjectId("Port", vm.tenant, vm.name)])

    def delete(self, gone: Sequence[ObjectId]) -> None:
        self._deleted = changes.commit(self.store, changes.delete(gone), "delete")[0]

    def policy(self) -> Policy:
        return documents.policy_from(snapshot_of(self.store, keys.INTENT).items)

    def states(self) -> dict[str, Any]:
        said = host_state.read(snapshot_of(self.store, keys.HOSTS, keys.LINKS).items)
        return {host: asdict(state) for host, state in said.items()}

    def has_applied(self, hosts: Sequence[str] = HOSTS) -> bool:
        """Whether agents say that they have the intent as it is."""
        snapshot = snapshot_of(self.store, keys.HOSTS, keys.INTENT)
        there = (at for key, at in snapshot.revisions.items() if key.startswith(keys.INTENT))
        newest = max(self._deleted, *there)
        states = host_state.read(snapshot.items)
        return all(host in states and states[host].has_applied(newest, None) for host in hosts)

    def settle(self, seconds: float = 40) -> None:
        """Until every core has what the store says."""
        wait_until(lambda: all(self.is_so(host) for host in HOSTS), "not so", seconds)
        wait_until(self.has_applied, f"not told: {self.states()}", seconds)

    # ---- what is there

    @contextmanager
    def client(self, host: str) -> Iterator[Client]:
        with Client(self.nodes[host].instance) as client:
            yield client

    def client_when_up(self, host: str) -> Client:
        found: list[Client] = []

        def connect() -> bool:
            with suppress(ClientError):
                found.append(Client(self.nodes[host].instance))
            return bool(found)

        wait_until(connect, "no data plane", FIRST_RUN)
        return found[0]

    def is_so(self, host: str) -> bool:
        """Whether the core has the rows that are compiled from the store now, and the ports."""
        policy = self.policy()
        with suppress(ClientError), self.client(host) as client:
            ports = {port["name"] for port in client.hello()["ports"]}
            wanted = {port.id.qualified_name for port in policy.ports if port.host == host}
            return client.digest() == digests(policy, host, client) and ports == wanted | {"underlay"}
        return False

    def ids(self, host: str) -> dict[str, int]:
        with self.client(host) as client:
            return {port["name"].rpartition("/")[2]: port["id"] for port in client.hello()["ports"]}

    def device(self, vm: Vm) -> links.Link | None:
        return netns.call(f"{self.prefix}{vm.netns or vm.name}", _find, "eth0")

    def assert_nothing_stray(self, namespaces: frozenset[str]) -> None:
        """The devices and filters are those of the intent, in the namespaces there were."""
        policy = self.policy()
        assert self.namespaces() == namespaces
        wanted = {name: set(self.empty) for name in namespaces}
        for node in self.nodes.values():
            wanted[node.namespace] = set(node.links)
        for port in policy.ports:
            assert port.attach is not None
            namespace = self.prefix + port.attach.netns
            wanted[namespace].add(port.attach.device)
            if port.attach.kind is AttachKind.VETH:
                host_end = host_end_name(port.attach.device, namespace)
                wanted[self.prefix + port.host].add(host_end)
        found = {name: set(self._links(name)) for name in namespaces}
        stray = {name: found[name] ^ wanted[name] for name in namespaces if found[name] != wanted[name]}
        assert stray == {}
        for node in self.nodes.values():
            is_there = node.name in policy.host_by_name
            names = wanted[node.namespace] - (self.empty if is_there else node.links)
            assert netns.call(node.namespace, _filtered) == dict.fromkeys(names, 1)

    def namespaces(self) -> frozenset[str]:
        return frozenset(path.name for path in netns.DIRECTORY.glob(f"{self.prefix}*"))

    def _links(self, namespace: str) -> frozenset[str]:
        return netns.call(namespace, _names)


def digests(policy: Policy, host: str, client: Client) -> dict[RowKind, int]:
    """Compiled in one go, with the ids that the core has for names."""
    if host not in policy.host_by_name:
        return {kind: dp.digest(kind, b"") for kind in RowKind}
    tables = compiler.compile_host(policy, host)
    ids = known_ids(client, host)
    rows = diff.rows_of(tables, ids.extend(tables))
    return {
        kind: dp.digest(kind, b"".join(diff.canonical(kind, row) for row in rows[kind].values()))
        for kind in RowKind
    }


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # the fastest way


def steady_descriptors(pid: int) -> int:
    """Once they stay as they are: after its start an agent looks at all devices once."""
    seen: list[tuple[float, int]] = []

    def is_steady() -> bool:
        now, count = time.monotonic(), descriptors(pid)
        if not seen or seen[-1][1] != count:
            seen.append((now, count))
        return now - seen[-1][0] > _STEADY_SECONDS

    wait_until(is_steady, "never steady", 20)
    return seen[-1][1]


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def threads(pid: int) -> list[str]:
    """By name; one that ends meanwhile may be among them or not."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            names.append((task / "comm").read_text().strip())
    return sorted(names)


def _set_up(name: str, mtu: int) -> None:
    with IPRoute() as ip:
        ip.link("set", index=links.get(ip, name).index, mtu=mtu, state="up")


def _find(name: str) -> links.Link | None:
    with IPRoute() as ip:
        return links.find(ip, name)


def _names() -> frozenset[str]:
    with IPRoute() as ip:
        return frozenset(message.get_attr("IFLA_IFNAME") for message in ip.get_links())


def _filtered() -> dict[str, int]:
    """Ingress filters by device, where there are any."""
    found = {}
    with IPRoute() as ip:
        for message in ip.get_links():
            with suppress(NetlinkError):
                filters = ip.get_filters(index=message["index"], parent=0xFFFFFFF2)
                handles = {each["handle"] for each in filters if each["handle"]}
                if handles:
                    found[message.get_attr("IFLA_IFNAME")] = len(handles)
    return found
