"""A lab: the fabric of a manifest in network namespaces, with isolane running on its hosts."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.host import netns
from policy.store.contract import Store
from policy.store.locations import open_store
from policy.store.reading import snapshot_of
from tools.lab.state import LabError, Process, State, remove, start_time
from tools.run.processes import readable, stop_signals

if TYPE_CHECKING:
    from dataplane.host.links import Link
    from policy.kinds.manifest import Stated
    from policy.kinds.model import Address, Host, Policy, Port
    from policy.service.planning import Plan

DEFAULT_PREFIX = "isl-"
FABRIC = "fabric"
UNMANAGED_DEVICE = "eth0"
"""An unmanaged host's underlay device when its manifest names none."""

READY_SECONDS = 30.0
_TICK = 0.05

Progress = Callable[[str], None]


def up(
    files: Iterable[Path],
    prefix: str = DEFAULT_PREFIX,
    progress: Progress = lambda _: None,
    workers: int = 1,
) -> dict[str, Any]:
    """Build the lab and return its status. ManifestError, or LabError: nothing is left of it.

    Signals that ask to stop are answered between steps, so that nothing is left half made.
    """
    from policy.kinds import manifest
    from policy.service import resolve

    paths = list(files)
    stated = manifest.read(paths)  # once: it may be standard input
    policy = resolve.resolve(stated)
    if not policy.hosts:
        raise LabError(f"no Host in {', '.join(map(str, paths))}")
    _check_one_network(policy)
    state = State(prefix)
    with _interruptible():
        state.create()
        try:
            state.namespaces = _free_namespaces(policy, prefix)
            state.save()
            _apply(stated, state)
            state.status = _build(policy, workers, state, progress)
            state.save()
        except BaseException:
            progress("cleaning up")
            remove(state)
            raise
    return state.status


def apply(files: Iterable[Path], prefix: str = DEFAULT_PREFIX, seconds: float = READY_SECONDS) -> "Plan":
    """Apply manifests to a lab that is up: hosts follow, and VMs that lack them get namespaces, addresses and
    routes, also those that another command has applied.

    ManifestError: nothing is changed. LabError: there is no lab, or the files state a host, for which there
    is no namespace. NotAppliedError: a host has not followed.
    """
    from dataplane.host import links
    from policy.kinds import documents, keys, manifest
    from policy.service import changes, rollout
    from policy.service.planning import Outcome
    from tools.lab import net

    state = State.load(prefix)
    if state.status is None:
        raise LabError(f"the lab with prefix {prefix} is not up")
    change = changes.apply(*manifest.read(list(files)))
    with _interruptible(), links.errors("lab"), contextlib.closing(open_store(str(state.store))) as store:
        plan = changes.plan(store, change)
        known = {host["name"] for host in state.status["hosts"]}
        if new := sorted({host.name for host in plan.after.hosts} - known):
            raise LabError(f"host {new[0]}: a lab has the hosts that it was made with")
        wanted = {_namespace(port, prefix) for port in _vm_ports(_policy_then(store, plan))}
        missing = sorted(wanted - set(state.namespaces))
        for name in missing:
            if (netns.DIRECTORY / name).exists():
                raise LabError(f"a network namespace {name} is there already")
        state.namespaces += missing
        state.save()
        for name in missing:
            net.make_namespace(name)
        revision, plan = changes.commit(store, change)
        policy = documents.policy_from(snapshot_of(store, keys.INTENT).items)
        hosts = [host.name for host in policy.hosts if host.managed]
        rollout.wait_applied(store, hosts, revision, seconds, lambda _: None)
        changed = {identity for identity, outcome in plan.outcomes if outcome is not Outcome.UNCHANGED}
        ports = [port for port in _vm_ports(policy) if port.id in changed or not _is_configured(port, prefix)]
        _configure_vms(policy, prefix, ports)
        _wait_for_addresses(ports, prefix)
    return plan


def down(prefix: str = DEFAULT_PREFIX) -> None:
    """Remove what the state file names. LabError: there is none."""
    remove(State.load(prefix))


def status(prefix: str = DEFAULT_PREFIX) -> dict[str, Any]:
    """The document of `lab status -o json`, with the ports of now. LabError: no lab, or it isn't up."""
    from policy.kinds import documents, keys

    state = State.load(prefix)
    if state.status is None:
        raise LabError(f"the lab with prefix {prefix} is not up: it is being built, or was left half made")
    with contextlib.closing(open_store(str(state.store), create=False)) as store:
        policy = documents.policy_from(snapshot_of(store, keys.INTENT).items)
    return {**state.status, "ports": _port_views(policy, prefix)}


# ---- building ----------------------------------------------------------------------------------------------


def _check_one_network(policy: "Policy") -> None:
    """A lab is one bridge without a router: every PA must be on link for every host that isolane runs on."""
    pas = _provider_addresses(policy)
    for host in policy.hosts:
        site = policy.site_by_name[host.site]
        far = next(((pa, owner) for pa, owner in pas if host.managed and site.subnet_of(pa) is None), None)
        if far:
            raise LabError(f"host {host.name} has no way to {far[0]} of host {far[1]}: a lab has no router")


def _provider_addresses(policy: "Policy") -> list[tuple["Address", str]]:
    """All there are, and whose: shared ones, then those under rewrite."""
    from policy.kinds.model import Translation

    hosts = policy.endpoint_by_name.values()
    pas = [(pa, host.name) for host in hosts for pa in host.provider_addresses]
    pas += [(pa, port.host) for port in policy.ports for pa in port.provider_addresses]
    return pas + [
        (record.provider_address, record.host)
        for record in policy.lookup_records
        if record.provider_address and record.rule is Translation.REWRITE
    ]


def _free_namespaces(policy: "Policy", prefix: str) -> list[str]:

    hosts = [FABRIC, *(host.name for host in policy.hosts)]
    vms = {port.attach.netns for port in policy.ports if port.attach and port.attach.netns}
    counts = Counter([*hosts, *vms])
    for name, count in counts.items():
        if count > 1:
            raise LabError(f"{name} would be the namespace of two things: hosts, attach.netns, or the fabric")
    names = [prefix + name for name in counts]
    for name in names:
        if (netns.DIRECTORY / name).exists():
            raise LabError(f"a network namespace {name} is there already")
    return names


def _apply(stated: "Stated", state: State) -> None:
    """Into the store that all hosts of the lab follow."""
    from policy.service import changes

    with contextlib.closing(open_store(str(state.store))) as store:
        changes.commit(store, changes.apply(*stated))


def _policy_then(store: Store, plan: "Plan") -> "Policy":
    from policy.kinds import documents, keys

    items = {**snapshot_of(store, keys.INTENT, at=plan.revision).items, **plan.puts}
    return documents.policy_from({key: items[key] for key in items.keys() - set(plan.deletes)})


def _build(policy: "Policy", workers: int, state: State, progress: Progress) -> dict[str, Any]:
    from dataplane.host import links
    from dataplane.host.links import DeviceError
    from dataplane.process.client import ClientError

    try:
        with links.errors("lab"):
            progress(f"{len(state.namespaces)} namespaces")
            underlays = _wire(policy, state)
        _start_hosts(policy, workers, state, progress)
        with links.errors("lab"):
            _configure_vms(policy, state.prefix, _vm_ports(policy))
        progress("waiting for duplicate address detection")
        _wait_for_addresses(_vm_ports(policy), state.prefix)
        progress("resolving provider addresses")
        _resolve(policy, state)
    except (DeviceError, ClientError) as error:
        raise LabError(str(error)) from error
    return _status(policy, state.prefix, underlays)


def _wire(policy: "Policy", state: State) -> dict[str, "Link"]:
    from tools.lab import net

    for name in state.namespaces:
        net.make_namespace(name)
        _stop_if_interrupted()
    fabric = state.prefix + FABRIC
    net.make_bridge(fabric, max(host.underlay.mtu for host in policy.hosts))
    underlays = {}
    for number, host in enumerate(policy.hosts):
        device = host.underlay.interface or UNMANAGED_DEVICE
        port = f"{number}-{host.name}"[:15]
        underlays[host.name] = net.plug_in(
            state.prefix + host.name, device, fabric, port, host.underlay.mac, host.underlay.mtu
        )
        _stop_if_interrupted()
    return underlays


def _start_hosts(policy: "Policy", workers: int, state: State, progress: Progress) -> None:
    managed = [host.name for host in policy.hosts if host.managed]
    progress(f"starting {', '.join(managed)}")
    with contextlib.ExitStack() as stack:
        waiting = {_start_host(host, workers, state, stack): host for host in managed}
        end = time.monotonic() + READY_SECONDS
        while waiting:
            _stop_if_interrupted()
            for pipe in readable(waiting, _TICK):
                host = waiting.pop(pipe)
                if not _is_ready(pipe):
                    words = state.log(host).read_text().strip()
                    raise LabError(
                        f"host {host}: isolane up ended: {words.replace('error: ', '') or 'it crashed'}"
                    )
            if time.monotonic() > end:
                raise LabError(f"not ready after {READY_SECONDS:.0f} s: {', '.join(waiting.values())}")


def _is_ready(peer: int) -> bool:
    """It has sent its line, else it has ended."""
    with contextlib.suppress(ConnectionResetError):  # ended before it had read ours
        return bool(os.read(peer, 16))
    return False


def _start_host(host: str, workers: int, state: State, stack: contextlib.ExitStack) -> int:
    """Run `isolane up` in the host's namespace; the descriptor gets a line when it is ready and ends when it
    dies. It makes nothing before the state has it.
    """

    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    instance = state.prefix + host
    program = Path(sysconfig.get_path("scripts"), "isolane")
    command = [sys.executable, str(program), "up", "--store", str(state.store), "--host", host]
    command += ["--instance", instance, "--workers", str(workers)]
    command += ["--netns-prefix", state.prefix, "--ready-fd", str(theirs.fileno())]
    with state.log(host).open("wb") as log, theirs:
        process = netns.call(
            instance,
            subprocess.Popen,
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    state.processes.append(Process(host, instance, process.pid, start_time(process.pid) or 0))
    state.save()
    with contextlib.suppress(BrokenPipeError):  # it has died; the reader will tell
        ours.send(b"go\n")
    return ours.fileno()


def _configure_vms(policy: "Policy", prefix: str, ports: "Collection[Port]") -> None:
    from tools.lab import net

    ranks: Counter[str] = Counter()
    for port in _vm_ports(policy):
        namespace = _namespace(port, prefix)
        subnet = policy.subnet_by_id[port.subnet_id]
        gateways = dict(zip(subnet.prefixes, subnet.gateways, strict=True))
        addresses = [
            net.VmAddress(address, within, gateways[within])
            for address in port.addresses
            if (within := subnet.prefix_of(address)) is not None
        ]
        assert port.attach is not None
        if port in ports:
            net.configure_vm(namespace, port.attach.device, addresses, ranks[namespace])
        ranks[namespace] += 1


def _is_configured(port: "Port", prefix: str) -> bool:
    from tools.lab import net

    assert port.attach is not None
    there = netns.call(_namespace(port, prefix), net.addresses, port.attach.device)
    return set(map(str, port.addresses)) <= there


def _vm_ports(policy: "Policy") -> list["Port"]:
    """The ports whose VM is a namespace of the lab. Who is the VM behind a device of a host makes that too,
    and whatever runs on an unmanaged host has to make all.
    """
    ports = [port for port in policy.ports if port.attach and port.attach.netns]
    return [port for port in ports if policy.host_by_name[port.host].managed]


def _namespace(port: "Port", prefix: str) -> str:
    assert port.attach is not None
    return prefix + (port.attach.netns or port.host)


def _wait_for_addresses(ports: "Collection[Port]", prefix: str) -> None:
    from tools.lab import net

    end = time.monotonic() + READY_SECONDS
    waiting = list(ports)
    while waiting:
        _stop_if_interrupted()
        for port in list(waiting):
            assert port.attach is not None
            tentative, duplicate = netns.call(
                _namespace(port, prefix), net.unfinished_addresses, port.attach.device
            )
            if duplicate:
                raise LabError(f"port {port.name}: somebody answers for its address {duplicate[0]}")
            if not tentative:
                waiting.remove(port)
        if time.monotonic() > end:
            raise LabError(f"duplicate address detection goes on: {', '.join(port.name for port in waiting)}")
        time.sleep(_TICK)


def _resolve(policy: "Policy", state: State) -> None:
    from dataplane.process.client import Client

    managed = {host.name for host in policy.hosts if host.managed}
    pas = _provider_addresses(policy)
    for process in state.processes:
        with Client(process.instance) as client:
            for pa, owner in pas:
                if owner in managed - {process.host}:
                    _stop_if_interrupted()
                    client.call("ping_pa", address=str(pa))


def _status(policy: "Policy", prefix: str, underlays: dict[str, "Link"]) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "hosts": [
            _host_view(host, prefix, underlays[host.name])
            for host in sorted(policy.endpoint_by_name.values(), key=attrgetter("name"))
        ],
        "ports": _port_views(policy, prefix),
    }


def _port_views(policy: "Policy", prefix: str) -> list[dict[str, Any]]:
    return [
        _port_view(port, prefix, policy) for port in sorted(policy.ports, key=attrgetter("name", "tenant"))
    ]


def _host_view(host: "Host", prefix: str, underlay: "Link") -> dict[str, Any]:
    from dataplane.process import instances

    return {
        "name": host.name,
        "netns": prefix + host.name,
        "managed": host.managed,
        "underlay": {"device": underlay.name, "mac": underlay.mac, "mtu": underlay.mtu},
        "providerAddresses": [str(pa) for pa in host.provider_addresses],
        "socket": str(instances.socket_path(prefix + host.name)) if host.managed else None,
    }


def _port_view(port: "Port", prefix: str, policy: "Policy") -> dict[str, Any]:
    """Provider addresses stand in the order of the addresses, as in the manifest."""
    return {
        "name": port.name,
        "tenant": port.tenant,
        "netns": _namespace(port, prefix) if port.attach else None,
        "device": port.attach.device if port.attach else None,
        "mac": port.mac,
        "addresses": [str(address) for address in port.addresses],
        "host": port.host,
        "virtualSubnetId": policy.subnet_by_id[port.subnet_id].vsid,
        "providerAddresses": [str(pa) for pa in port.provider_addresses],
    }


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Signals wait until they are asked for, or the context ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop_if_interrupted() -> None:
    if signal.sigpending() & stop_signals():
        raise LabError("interrupted")
