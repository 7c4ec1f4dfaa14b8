"""`isolane bench tcp`, `latency`, `ports` and `peers`: contests, and who takes part."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import click

from tools import measuring
from tools.options import Seconds

F = TypeVar("F", bound=Callable[..., Any])

PROFILES = ("wire", "wire-gro", "offload")
TCP_PROFILES = (*PROFILES, "jumbo")
PAUSES = (0.0, 2.0)
_ISOLANE, _KERNEL = ("isolane", "isolane-afxdp"), ("kernel-vxlan", "kernel-bridge")
_SWITCH = ("ovs-packet", "ovs-afxdp")
CONTESTANTS = (*_ISOLANE, *_KERNEL, "relays", "relays-whole", *_SWITCH)
DEVICES = (*_ISOLANE, *_KERNEL, "relays", *_SWITCH, "testpmd-packet", "testpmd-afxdp")
LOADS = ("frames", "overload", "datagrams", "no-loss", "overload-datagrams")
QUICK_PROFILES = PROFILES[:1]


def _profiles(names: Sequence[str]) -> Callable[[F], F]:
    return click.option(
        "--profile",
        "profiles",
        multiple=True,
        type=click.Choice(names),
        help="Of the wire between the hosts, as bench tcp explains; repeatable.  [default: all]",
    )


def _contestants(names: Sequence[str]) -> Callable[[F], F]:
    return click.option(
        "--contestant",
        "contestants",
        multiple=True,
        type=click.Choice(names),
        help="Besides kernel-vxlan, see bench peers; repeatable.  [default: all that are installed]",
    )


_contestant_option = _contestants(CONTESTANTS)
ROUNDS, QUICK_ROUNDS = 5, 3
_rounds_option = click.option(
    "--rounds",
    default=None,
    type=click.IntRange(1, 100),
    help=f"Of all contestants.  [default: {ROUNDS}, with --quick {QUICK_ROUNDS}]",
)

_quick_option = click.option(
    "--quick",
    is_flag=True,
    help="For a first look: unless told otherwise profile wire alone, fewer rounds, and short runs.",
)


@click.command("tcp")
@_profiles(TCP_PROFILES)
@_contestant_option
@_rounds_option
@click.option(
    "--seconds", type=click.IntRange(1, 600), help="Of each run.  [default: 5, with --quick 1]", default=None
)
@click.option(
    "--congestion",
    metavar="NAME",
    default="cubic",
    show_default=True,
    help="TCP's congestion control, one of sysctl net.ipv4.tcp_available_congestion_control.",
)
@_quick_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def tcp(
    profiles: tuple[str, ...],
    contestants: tuple[str, ...],
    rounds: int | None,
    seconds: int | None,
    congestion: str,
    quick: bool,
    as_json: bool,
) -> None:
    """One TCP stream between VMs of two hosts: isolane beside kernel VXLAN, Open vSwitch and others.

    \b
    wire      no offload on the wire: every frame at most its MTU, checksums complete
    wire-gro  the same, but received segments are merged
    offload   as the kernel makes a veth: frames of 64 KiB with partial checksums
    jumbo     as wire, but its MTU is 9,000, not 1,600; isolane on both, without who takes no such frames

    Contestants take turns, so that a busy machine meets them alike; a ratio is that of one round. A round in
    which the hypervisor took over 3 % of the time is repeated. CPU is of all that runs, iperf3 too. VMs of
    Open vSwitch and of relays send plain frames whatever the profile: they take no others. relays-whole is
    the roof of user space: packets of 64 KiB, copied in and out, and nothing else. Needs root and iperf3.

    \b
    Example:
      isolane bench tcp --profile wire --rounds 7 --json
      isolane bench tcp --quick --contestant isolane
    """
    from bench.tcp import Settings, run_all

    settings = Settings(
        profiles or (QUICK_PROFILES if quick else TCP_PROFILES),
        contestants,
        rounds or (QUICK_ROUNDS if quick else ROUNDS),
        seconds or (1 if quick else 5),
        congestion,
    )
    measuring.report(partial(run_all, settings), _print_tcp, as_json)


def _print_tcp(document: dict[str, Any]) -> None:
    columns = {
        "Gb/s": "gbps",
        "of kernel VXLAN": "ratio",
        "of own at 1,600": "ofOwnAt1600",
        "CPU s/Gbit": "cpuSecondsPerGbit",
        "wake-ups/Gbit": "wakeUpsPerGbit",
    }
    for result in document["results"]:
        _print_contest(
            result,
            f"{result['profile']}, {document['congestion']}",
            columns,
            "retransmits",
            lambda each: f"{each['retransmits']['median']:.0f}",
        )


def _print_contest(
    result: Mapping[str, Any],
    title: str,
    columns: Mapping[str, str],
    last_title: str,
    last: Callable[[Mapping[str, Any]], str],
) -> None:
    """columns: by title, names of spreads; what nobody has is none."""
    contestants = result["contestants"].values()
    columns = {title: key for title, key in columns.items() if any(key in each for each in contestants)}
    click.echo(f"{title}, {result['rounds']} rounds, steal {result['steal']['max']:.1%} at most")
    rows = [("", *columns, last_title)]
    for name, figures in result["contestants"].items():
        cells = (measuring.spread(figures[key]) if key in figures else "" for key in columns.values())
        rows.append((name, *cells, last(figures)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  " + "  ".join(cells).rstrip())


@click.command("latency")
@_profiles(PROFILES)
@_contestant_option
@_rounds_option
@click.option(
    "--count",
    default=None,
    type=click.IntRange(10, 1_000_000),
    help="Requests of a run.  [default: 3000, with --quick 500]",
)
@click.option(
    "--pause",
    "pauses",
    multiple=True,
    type=click.FloatRange(0, 1000),
    help="Between requests, milliseconds; 0: back to back; repeatable.  [default: 0 and 2]",
)
@_quick_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def latency(
    profiles: tuple[str, ...],
    contestants: tuple[str, ...],
    rounds: int | None,
    count: int | None,
    pauses: tuple[float, ...],
    quick: bool,
    as_json: bool,
) -> None:
    """Round trips between VMs of two hosts: isolane beside kernel VXLAN, Open vSwitch and others.

    Contestants take turns as in `bench tcp`. With a pause requests go by a fixed schedule, whether answers
    are there or not. Needs root.

    \b
    Example:
      isolane bench latency --profile wire --pause 0 --json
      isolane bench latency --quick --contestant isolane --contestant relays
    """
    from bench.latency import Settings, run_all

    settings = Settings(
        profiles or (QUICK_PROFILES if quick else PROFILES),
        contestants,
        rounds or (QUICK_ROUNDS if quick else ROUNDS),
        pauses or PAUSES,
        count or (500 if quick else 3000),
    )
    measuring.report(partial(run_all, settings), _print_latency, as_json)


def _print_latency(document: dict[str, Any]) -> None:
    columns = {
        "p50 us": "p50",
        "p99 us": "p99",
        "of kernel VXLAN": "ratio",
        "wake-ups/trip": "wakeUpsPerTrip",
    }
    for result in document["results"]:
        pause = result["pauseMilliseconds"]
        schedule = f"every {pause:g} ms" if pause else "back to back"
        title = f"{result['profile']}, {schedule}"
        _print_contest(result, title, columns, "lost", lambda each: f"{each['lost']['max']:.0f}")


@click.command("ports")
@click.option(
    "--load",
    "loads",
    multiple=True,
    type=click.Choice(LOADS),
    help="What is sent, as explained above; repeatable.  [default: all, with --quick frames]",
)
@_contestants(DEVICES)
@_rounds_option
@click.option(
    "--seconds", type=Seconds(0.1, 600), help="Of each run.  [default: 3, with --quick 0.5]", default=None
)
@click.option(
    "--frame", default=64, show_default=True, type=click.IntRange(60, 1500), help="Bytes without FCS."
)
@click.option(
    "--quick",
    is_flag=True,
    help="For a first look: unless told otherwise frames alone, fewer rounds, and short runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ports(
    loads: tuple[str, ...],
    contestants: tuple[str, ...],
    rounds: int | None,
    seconds: float | None,
    frame: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Small packets a second: isolane beside kernel VXLAN, Open vSwitch and others.

    \b
    frames     through one device of each, as many as it takes
    overload   the same, offered one to ten times what passes at most: as much is to come through then
    datagrams  UDP between VMs of two hosts, as many as one sender can
    no-loss    the same at the highest rate that loses at most 0.1 %, found by bisection
    overload-datagrams
               the same, offered one to ten times what passes at most, or as much as one sender can, which
               has a CPU of its own

    The kernel generates frames on a CPU of their own, and they are counted and dropped at the other end of
    the wire. What a contestant says that it sent has to be what came. Contestants have the other CPUs, but
    for the kernel's own, which work where the frames come from: these slow the generator down and lose none.
    CPU is of all that runs, what sends and receives too. Contestants take turns as in `bench tcp`. Needs
    root.

    \b
    Example:
      isolane bench ports --load frames --rounds 7 --json
      isolane bench ports --quick --contestant isolane --contestant relays
    """
    from bench.ports import Settings, run_all

    settings = Settings(
        loads or (LOADS[:1] if quick else LOADS),
        contestants,
        rounds or (QUICK_ROUNDS if quick else ROUNDS),
        seconds or (0.5 if quick else 3.0),
        frame,
    )
    measuring.report(partial(run_all, settings), _print_ports, as_json)


def _print_ports(document: dict[str, Any]) -> None:
    from bench.documents import ports_title

    columns = {"kpps": "kpps", "of kernel VXLAN": "ratio", "CPU s/Mpkt": "cpuSecondsPerMillion"}
    for result in document["results"]:
        title = ports_title(result["load"], result["frame"])
        _print_contest(
            result,
            title,
            columns,
            "lost, of offered kpps",
            lambda each: f"{each['lost']['median']:.2%} of {each['offeredKpps']['median']:.0f}",
        )
        _print_overload(result["contestants"])


def _print_overload(contestants: Mapping[str, Any]) -> None:
    for name, figures in contestants.items():
        if "steps" in figures:
            steps = (
                f"{step['kpps']['median']:.0f} of {step['offeredKpps']['median']:.0f}"
                for step in figures["steps"]
            )
            of_peak = f"{measuring.spread(figures['ofPeak'])} of the peak, must {figures['must']}"
            offered = f"at {measuring.spread(figures['offeredOfPeak'])} times it"
            click.echo(f"  {name:<22}  {of_peak}, {offered}: {', '.join(steps)} kpps")


@click.command("peers")
@click.option("--install", is_flag=True, help="Say what to install for those that are missing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def peers(install: bool, as_json: bool) -> None:
    """Who takes part in contests, and who can't here and why.

    \b
    Example:
      isolane bench peers
      isolane bench peers --install
    """
    from bench.devices import everybody

    found = everybody()
    if install:
        packages = sorted({each.package for each in found if each.missing and each.package})
        click.echo(
            f"apt-get install {' '.join(packages)}" if packages else "nothing is missing that a package has"
        )
        return
    rows = [{"name": each.name, "what": each.what, "missing": each.missing} for each in found]
    if as_json:
        click.echo(json.dumps({"contestants": rows}, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']:<14} {row['what']:<42} {row['missing'] or 'ready'}")


COMMANDS = (tcp, latency, ports, peers)
