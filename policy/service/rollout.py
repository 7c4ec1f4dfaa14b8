"""What has become of intent on hosts: what their agents say in the store, which hosts a change concerns, and
waiting for them.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from policy.errors import NotAppliedError, NotDeletedError, ObjectId
from policy.kinds import documents, keys
from policy.kinds.model import CustomerRoute, Host, IPPool, Object, Port, VMNetwork, VMSubnet
from policy.service import host_state, lookup
from policy.service.host_state import NO_AGENT, HostState
from policy.store.contract import Store
from policy.store.reading import Reading, snapshot_of

RECOVERY_SECONDS = 3.0
"""A host that has failed may get over it: a device that another host has yet to let go, say."""
_PROGRESS_SECONDS = 2.0


def managed(reading: Reading) -> set[str]:
    """The hosts that isolane runs on."""
    hosts = documents.read(reading.under(keys.objects_of("Host"))).objects
    return {host.name for host in hosts if isinstance(host, Host) and host.managed}


def without_agent(reading: Reading, hosts: Iterable[str]) -> list[str]:
    """Those of which no agent says anything: there is none, or none any more."""
    states = host_state.read(reading.under(keys.HOSTS))
    return sorted(host for host in hosts if host not in states)


# ---- whom a change concerns --------------------------------------------------------------------------------


def concerned(reading: Reading, objects: Iterable[Object]) -> set[str]:
    """The managed hosts whose tables these objects may be in, or may have been in before a change."""
    if not lookup.is_indexed(reading):
        return managed(reading)
    hosts: set[str] = set()
    networks: set[ObjectId] = set()
    subnets: set[ObjectId] = set()
    for item in objects:
        match item:
            case Port():
                hosts.add(item.host)
                subnets.add(item.subnet_id)
            case VMSubnet() | CustomerRoute():
                networks.add(item.network_id)
            case VMNetwork():
                networks.add(item.id)
            case IPPool() if not item.site:
                subnets.add(item.subnet_id)
            case Host():
                hosts.add(item.name)
                networks |= _networks_on(reading, item.name)
            case _:
                return managed(reading)
    networks |= _networks_of(reading, subnets)
    prefixes = list(map(keys.presences_of, networks))
    reading.load(prefixes=prefixes)
    hosts |= {keys.presence_host(key) for prefix in prefixes for key in reading.under(prefix)}
    return _managed_of(reading, hosts)


def _networks_on(reading: Reading, host: str) -> set[ObjectId]:
    ports = [keys.host_port(key) for key in reading.under(keys.ports_of(host))]
    loaded = _loaded(reading, ports)
    return _networks_of(reading, {port.subnet_id for port in loaded if isinstance(port, Port)})


def _networks_of(reading: Reading, subnets: Iterable[ObjectId]) -> set[ObjectId]:
    return {item.network_id for item in _loaded(reading, subnets) if isinstance(item, VMSubnet)}


def _managed_of(reading: Reading, hosts: Iterable[str]) -> set[str]:
    found = _loaded(reading, (ObjectId("Host", "", host) for host in hosts))
    return {item.name for item in found if isinstance(item, Host) and item.managed}


def _loaded(reading: Reading, identities: Iterable[ObjectId]) -> list[Object]:
    wanted = list(map(keys.object_key, identities))
    reading.load(wanted)
    there = {key: value for key in wanted if (value := reading.get(key)) is not None}
    return list(documents.read(there).objects)


# ---- waiting -----------------------------------------------------------------------------------------------


def wait_deleted(store: Store, identities: Iterable[ObjectId], seconds: float) -> None:
    """Until none of these objects is there. NotDeletedError: one still is after `seconds`."""
    waited_for = {keys.object_key(identity): identity for identity in identities}
    snapshot = snapshot_of(store, keys=waited_for)
    there = set(snapshot.items)
    end = time.monotonic() + seconds
    with store.watch(snapshot.revision, waited_for) as watch:
        while there:
            left = end - time.monotonic()
            if left <= 0:
                names = ", ".join(sorted(str(waited_for[key]) for key in there))
                raise NotDeletedError(f"still there after {seconds:.0f} s: {names}")
            batch = watch.next(left)
            for key, value in batch.changes if batch else ():
                if key in waited_for:
                    (there.discard if value is None else there.add)(key)


Say = Callable[[HostState, Collection[str] | None], Iterable[str]]
"""Of a host that has failed these ports, or any."""


def wait_applied(
    store: Store,
    hosts: Iterable[str],
    revision: int,
    seconds: float,
    progress: Callable[[list[str]], None],
    ports: Collection[str] | None = None,
    say: Say = HostState.problems_of,
) -> None:
    """Until all of these hosts have applied this revision. NotAppliedError: one has not, after `seconds`, or
    sooner where it has failed and does not get over it.

    progress: is told from time to time who is behind. ports: problems of others are passed over. say: what is
    told of a host's problems.
    """
    behind = set(hosts)
    snapshot = snapshot_of(store, keys.HOSTS)
    now = time.monotonic()
    end, give_up, told = now + seconds, now + seconds, now + _PROGRESS_SECONDS
    states = host_state.read(snapshot.items)
    with store.watch(snapshot.revision, [keys.HOSTS]) as watch:
        while True:
            behind -= {host for host in behind & states.keys() if states[host].has_applied(revision, ports)}
            if not behind:
                return
            failed = {host for host in behind & states.keys() if states[host].has_failed(revision, ports)}
            now = time.monotonic()
            give_up = min(give_up, now + RECOVERY_SECONDS) if failed else end
            if now >= min(end, give_up):
                said = {host: say(states[host], ports) for host in failed}
                raise NotAppliedError("\n".join(_why_not(behind, said, states, seconds)))
            if now >= told:
                progress(sorted(behind))
                told = now + _PROGRESS_SECONDS
            batch = watch.next(min(end, give_up, told) - now)
            for key, value in batch.changes if batch else ():
                if value is None:
                    states.pop(keys.host_name(key), None)
                else:
                    states[keys.host_name(key)] = host_state.decode(value)


def _why_not(
    behind: set[str], failed: Mapping[str, Iterable[str]], there: Collection[str], seconds: float
) -> Iterator[str]:
    for host, problems in sorted(failed.items()):
        yield f"host {host}: {'; '.join(problems)}"
    if silent := behind - failed.keys():
        when = "yet" if failed else f"after {seconds:.0f} s"
        names = (host if host in there else f"{host} ({NO_AGENT})" for host in sorted(silent))
        yield f"not applied {when} by: {', '.join(names)}"
