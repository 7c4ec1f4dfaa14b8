"""`isolane replay`: capture files through the packet core of one host, without root or devices."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import click

from tools.errors import Failure, Misuse, did_you_mean
from tools.options import complete_host_of_files, files_option
from tools.verbs import captures

if TYPE_CHECKING:
    from dataplane.binding.core import Neighbour
    from dataplane.binding.stats import Counters
    from policy.compile.tables import Tables
    from policy.kinds.model import Address, Mac, Policy

LINGER = 10_000_000_000
"""ns that the clock runs on after the last packet."""

HASH_KEY = (0x6973_6F6C_616E_6500, 0x7265_706C_6179_0000)
"""Fixed, so that every run of the same captures is the same run."""

SLOTS = 4096
"""Of the packet core: two batches of the longest packets, and what waits for a next hop."""

COLLECT = 64
"""Packets that go in before what came out is collected."""

BUFFER = 1 << 20
"""Bytes that are read of a capture file at a time."""

COUNTERS_FILE = "counters.json"

_TOTALS = ("received", "originated", "sent", "dropped", "consumed", "held")


class _PortFile(click.ParamType[tuple[str, Path]]):
    name = "PORT=FILE"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        port, equals, path = value.partition("=")
        if not (port and equals and path):
            self.fail(f"{value!r} is not PORT=FILE", param, ctx)
        if not Path(path).is_file():
            self.fail(f"no such file: {path}", param, ctx)
        return port, Path(path)


@click.command("replay", short_help="Captures through the packet core, offline.")
@files_option()
@click.option("--host", required=True, help="Name of the Host to be.", shell_complete=complete_host_of_files)
@click.option(
    "--in",
    "inputs",
    multiple=True,
    type=_PortFile(),
    help="What a port receives, a pcap or pcapng of Ethernet. PORT: one of the host (TENANT.PORT where"
    " several tenants have one of that name) or `underlay`; repeatable.",
)
@click.option(
    "--out-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Gets PORT.pcap for every port of the host (TENANT.PORT.pcap where several tenants have one of that"
    " name), underlay.pcap and counters.json.",
)
@click.option(
    "--batch",
    default=64,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Packets a batch, which never shows in what comes out.",
)
@click.option("--force", is_flag=True, help="Write into a directory that is not empty.")
def command(
    files: list[Path],
    host: str,
    inputs: tuple[tuple[str, Path], ...],
    out_dir: Path,
    batch: int,
    force: bool,
) -> None:
    """Run captures through the packet core as it would run on a host with these manifests.

    All captures are merged by timestamp, which is the core's clock; it runs 10 s on after the last packet. A
    provider next hop has the MAC that the manifests state.

    \b
    Example:
      isolane replay net.yaml --host h1 --in blue-web=vm.pcap --in underlay=wire.pcap --out-dir out
    """
    from dataplane.binding.errors import DataplaneError
    from policy.compile import compiler
    from policy.service import resolve

    policy = resolve.load(files)
    run = Run(policy, compiler.compile_host(policy, host))
    inputs = tuple((run.named(port), path) for port, path in inputs)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        if not force and any(out_dir.iterdir()):
            raise Failure(f"{out_dir} is not empty", "--force writes into it")
        counters = run.replay(inputs, out_dir, batch)
    except (DataplaneError, OSError) as error:
        raise Failure(str(error)) from None
    click.echo(summary(counters), err=True)


def summary(counters: Mapping[str, Any]) -> str:
    """`3 in, 2 out at underlay, 1 consumed`"""
    sent = {name: port["sent"] for name, port in counters["ports"].items() if port["sent"]}
    parts = [f"{counters['received']} in", *(f"{count} out at {name}" for name, count in sent.items())]
    parts += [f"{count} dropped as {reason}" for reason, count in counters["drops"].items()]
    parts += [f"{counters[what]} {what}" for what in ("consumed", "held") if counters[what]]
    return ", ".join(parts)


Output = Callable[[list[captures.Packet]], None]


class Engine(Protocol):
    """What is used of dataplane.core.Dataplane."""

    def neighbours(self) -> "list[Neighbour]": ...
    def next_timer(self) -> int: ...
    def poll(self, now: int, /) -> int: ...
    def inject_packets(self, port: int, packets: list[captures.Packet], /) -> None: ...
    def collect_packets(self, port: int, /) -> list[captures.Packet]: ...


class Player:
    """Packets of many sources through an engine with memory ports, one worker and no threads.

    The clock is the packets' timestamp. It never falls: a packet whose timestamp falls keeps it (what it
    causes is written with it), the clock stays.

    The batch size must not show. A batch ends before another port's packet, and where the timestamp changes:
    the clock is then the time of each of its packets. Only when the MAC of every provider next hop is fixed,
    so that no packet can start a timer, a batch goes on over different timestamps; what a packet causes
    carries the packet's own time in any case.
    """

    def __init__(self, engine: Engine, outputs: Mapping[int, Output], batch: int) -> None:
        """outputs: by port, who takes what leaves by it. batch: packets at most."""
        self._engine, self._outputs, self._limit = engine, outputs, batch
        self._now = 0
        self._waiting = 0
        """Packets that went in since what came out was collected, which has the core's slots till then."""

    def play(self, sources: Iterable[tuple[int, Iterable[captures.Packet]]], linger: int) -> None:
        """Sources: (port, packets). Merged by timestamp, ties by order of the sources, then of the packets;
        then the clock runs `linger` ns on."""
        from dataplane.binding.core import NeighbourState

        timeless = all(n.state == NeighbourState.FIXED for n in self._engine.neighbours())
        tagged = [_tagged(order, port, packets) for order, (port, packets) in enumerate(sources)]
        batch: list[captures.Packet] = []
        at = start = -1
        for time, _, port, packet in merge(*tagged):
            if port != at or len(batch) == self._limit or (time != start and not timeless):
                if batch:
                    self._run(at, start, batch)
                else:
                    self._now = time  # the clock starts here: timers set before it were not due in between
                batch, at, start = [], port, time
            batch.append(packet)
        if batch:
            self._run(at, start, batch)
        self._run_clock(self._now + linger)
        self._collect()

    def _run(self, port: int, time: int, batch: list[captures.Packet]) -> None:
        self._run_clock(time)
        self._engine.inject_packets(port, batch)
        self._engine.poll(self._now)
        self._waiting += len(batch)
        if self._waiting >= COLLECT:
            self._collect()

    def _run_clock(self, time: int) -> None:
        """Moves the clock to `time`, with what is due until then, each at its own time."""
        while (due := self._engine.next_timer()) <= time:
            self._now = max(self._now, due)
            self._engine.poll(self._now)
            self._collect()
        self._now = max(self._now, time)

    def _collect(self) -> None:
        self._waiting = 0
        for port, output in self._outputs.items():
            if packets := self._engine.collect_packets(port):
                output(packets)


@dataclass(frozen=True)
class Run:
    """A host's policy, ready to have captures run through it."""

    policy: "Policy"
    tables: "Tables"

    @cached_property
    def ports(self) -> dict[str, int]:
        """Port -> its id in the core, the underlay first. Ports are named as their files are."""
        from dataplane.binding.core import UNDERLAY
        from policy.kinds.model import UNDERLAY_PORT

        named = {self.names[name]: number for name, number in self.tables.ids.ports.items()}
        return {UNDERLAY_PORT: UNDERLAY, **named}

    @cached_property
    def names(self) -> dict[str, str]:
        """TENANT/NAME -> what its files are named by: NAME, or TENANT.NAME where that could be another's."""
        from policy.kinds.model import UNDERLAY_PORT

        short = {name: name.partition("/")[2] for name in self.tables.ids.ports}
        times = Counter([UNDERLAY_PORT, *short.values()])
        names = {name: name.replace("/", ".") if times[each] > 1 else each for name, each in short.items()}
        for name, count in Counter(names.values()).items():
            if count > 1:
                raise Failure(f"two ports of {self.tables.host} would be written to {name}.pcap")
        return names

    def named(self, port: str) -> str:
        """The port that --in names: as its files are, TENANT.NAME or TENANT/NAME."""
        longer = {name.replace("/", sign): each for name, each in self.names.items() for sign in "./"}
        name = port if port in self.ports else longer.get(port)
        if name is None:
            text = f"no port {port} on {self.tables.host}; ports: {', '.join(self.ports)}"
            raise Misuse(text, did_you_mean(port, self.ports))
        return name

    def replay(self, inputs: tuple[tuple[str, Path], ...], out_dir: Path, batch: int) -> dict[str, Any]:
        """Write a capture a port and the counters, which it returns; on an error, none of them stays."""
        outputs = {name: out_dir / f"{name}.pcap" for name in self.ports}
        for _, path in inputs:
            if path.resolve() in {output.resolve() for output in outputs.values()}:
                raise Failure(f"{path} would be overwritten")
        with ExitStack() as undo:
            for path in (*outputs.values(), out_dir / COUNTERS_FILE):
                undo.callback(path.unlink, missing_ok=True)
            counters = self._run(inputs, outputs, batch)
            (out_dir / COUNTERS_FILE).write_text(json.dumps(counters, indent=2) + "\n")
            undo.pop_all()
        return counters

    def _run(
        self, inputs: tuple[tuple[str, Path], ...], outputs: dict[str, Path], batch: int
    ) -> dict[str, Any]:
        from dataplane.binding import core
        from policy.kinds.model import ROUTER_MAC

        config = core.Config(
            self_host=self.tables.ids.hosts[self.tables.host],
            router_mac=_mac(ROUTER_MAC),
            hash_key=HASH_KEY,
            slots=SLOTS,
        )
        neighbours = self._neighbours()
        with ExitStack() as files:
            outs = {
                self.ports[name]: captures.Writer(files.enter_context(path.open("wb"))).write
                for name, path in outputs.items()
            }
            ins = [(port, files.enter_context(path.open("rb", BUFFER))) for port, path in inputs]
            dataplane = files.enter_context(core.Dataplane(config))
            for name, (mac, mtu) in self._links().items():
                memory = core.PortConfig(name, core.PortKind.MEM, _mac(mac), mtu)
                dataplane.attach(self.ports[name], memory)
            for address, mac in neighbours.items():
                dataplane.set_neighbour(address, _mac(mac))
            dataplane.apply(self.tables.change_set().encode())
            sources = [(self.ports[name], _packets(name, file)) for name, file in ins]
            try:
                Player(dataplane, outs, batch).play(sources, LINGER)
            except captures.CaptureError as error:
                raise Failure(f"replay: {error} (malformed)") from None
            by_port = {name: dataplane.port_counters(port) for name, port in sorted(self.ports.items())}
            return {**_view(dataplane.counters()), "ports": {name: _view(c) for name, c in by_port.items()}}

    def _neighbours(self) -> "dict[Address, Mac]":
        from policy.compile import compiler
        from policy.errors import ManifestError

        host = self.policy.host_by_name[self.tables.host]
        if not host.underlay.mac:
            text = "missing: replay has no device to ask"
            raise ManifestError([self.policy.problem(host.id, "spec.underlay.mac", text)])
        return compiler.next_hop_macs(self.policy, self.tables)

    def _links(self) -> "dict[str, tuple[Mac, int]]":
        """Port name -> MAC and MTU."""
        from policy.compile.compiler import tenant_mtu
        from policy.kinds.model import UNDERLAY_PORT

        underlay = self.policy.host_by_name[self.tables.host].underlay
        mtu = tenant_mtu(self.policy)
        tenants = {self.names[port.name]: (port.mac, mtu) for port in self.tables.ports}
        return {UNDERLAY_PORT: (underlay.mac, underlay.mtu), **tenants}


def _view(counters: "Counters") -> dict[str, Any]:
    return {**{name: getattr(counters, name) for name in _TOTALS}, "drops": dict(counters.drops)}


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _packets(port: str, file: BinaryIO) -> Iterator[captures.Packet]:
    """A port's input. Failure: it is no capture file."""
    try:
        return captures.read(file, f"port {port}")
    except captures.CaptureError as error:
        text = f"{file.name}: capture for port {port}: {error} (malformed)"
        raise Failure(text) from None


def _tagged(
    order: int, port: int, packets: Iterable[captures.Packet]
) -> Iterator[tuple[int, int, int, captures.Packet]]:
    """So that they compare by time, then by order."""
    return ((packet[0], order, port, packet) for packet in packets)
