"""`isolane bench`: how fast, against whom."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from tools import measuring
from tools.errors import Failure, Group
from tools.options import Seconds
from tools.verbs import bench_contests, bench_report

OPS = ("push", "pop", "rewrite-out", "rewrite-in", "lookup")
ODD_OPS = ("push-miss", "push-spoof", "push-allowed")
"""Run only when asked for."""
CONTROL_RECORDS = (1_000, 100_000, 1_000_000)


@click.group("bench", cls=Group)
def command() -> None:
    """Measure. Run one at a time on an otherwise idle machine.

    \b
    Example:
      isolane bench core --op push --records 1000000 --json
    """


@command.command("core")
@click.option(
    "--op",
    "ops",
    multiple=True,
    type=click.Choice(OPS + ODD_OPS),
    help="Repeatable.  [default: all but push-miss, push-spoof and push-allowed]",
)
@click.option(
    "--records", default=8192, show_default=True, type=click.IntRange(1, 1 << 24), help="Lookup records."
)
@click.option(
    "--flows",
    default=None,
    type=click.IntRange(1, 1 << 24),
    help="Distinct flows.  [default: as records, at most 1 M]",
)
@click.option("--hosts", default=1000, show_default=True, type=click.IntRange(1, 65536), help="Remote hosts.")
@click.option(
    "--frame",
    default=64,
    show_default=True,
    type=click.IntRange(64, 2048),
    help="Tenant frame, bytes without FCS.",
)
@click.option(
    "--keys",
    default="uniform",
    show_default=True,
    type=click.Choice(("uniform", "zipf")),
    help="Order of flows.",
)
@click.option(
    "--family",
    "families",
    multiple=True,
    default=("4",),
    show_default="4",
    type=click.Choice(("4", "6")),
    help="Of the CAs; repeatable.",
)
@click.option(
    "--pa-family",
    type=click.Choice(("4", "6")),
    help="Of the PAs of push, pop and lookup.  [default: that of the CAs]",
)
@click.option("--seconds", default=1.0, show_default=True, type=Seconds(0.1, 600), help="For each operation.")
@click.option(
    "--sources",
    multiple=True,
    default=(0,),
    show_default="0",
    type=click.IntRange(0, 65_000),
    help="Prefixes that the port may send from besides its own address, for push-spoof and push-allowed;"
    " repeatable.",
)
@click.option("--roof", is_flag=True, help="The bare limit beside each, in the same run (family 4).")
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 8),
    help="If several, how many packets they pass at once too, of what one passes alone.",
)
@click.option(
    "--ovs-dpdk",
    "with_peer",
    is_flag=True,
    help="Open vSwitch with DPDK pushing the same flows into GRE in memory, in turns with them; needs root.",
)
@click.option("--instructions", is_flag=True, help="Instructions a packet too, of a fixed input.")
@click.option(
    "--compare",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Clocks and instructions beside those of an earlier --json document or of bench/instructions.json.",
)
@click.option(
    "--input",
    "earlier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Measure nothing: print or compare this earlier --json document.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def core(
    ops: tuple[str, ...],
    flows: int | None,
    families: tuple[str, ...],
    pa_family: str | None,
    sources: tuple[int, ...],
    instructions: bool,
    compare: Path | None,
    earlier: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Clocks a packet in memory, from a filled rx batch to a batch ready for tx.

    Exit status 1 if a sample of 10,000 packets differs from the naive twin, or if with --compare an operation
    takes 3 % more instructions than it did. Clocks are printed, not judged.

    push-miss: to where no record is. push-spoof: from addresses that are not the port's. Both are dropped,
    and counters say for what. push-allowed: from its other sources.

    A roof is the least that a program must do for the same packets; the bar says how many times that the path
    may take. Workers are those of one engine, each on a CPU of its own. CPUs may share a core, so that two
    are not twice one: --roof says what they have for a program that shares nothing.

    \b
    Example:
      isolane bench core --op push --op pop --records 1000000 --seconds 2
      isolane bench core --op push --op push-miss --op push-spoof --sources 2 --sources 1000
      isolane bench core --op push --op pop --family 4 --family 6 --pa-family 4
      isolane bench core --op push --op pop --workers 2 --roof
      isolane bench core --instructions --json > old.json
      isolane bench core --compare old.json
    """
    if "push-allowed" in ops and 0 in sources:
        raise click.BadParameter("push-allowed needs one at least", param_hint="--sources")
    if settings["roof"] and ("4" not in families or pa_family == "6"):
        raise click.BadParameter("there are roofs for family 4 only", param_hint="--roof")
    flows = flows or min(settings["records"], 1 << 20)
    if earlier:
        document = json.loads(earlier.read_text())
    else:
        settings |= {"flows": flows, "pa_family": int(pa_family or 0)}
        document = _measure(ops or OPS, [int(family) for family in families], sources, **settings)
    old = json.loads(compare.read_text()) if compare else None
    if not earlier and (instructions or compare):
        _count(document, old, required=instructions)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print_table(document)
    if any(result["drops"] and "reason" not in result for result in document["results"]):
        raise Failure("packets were dropped; the figures do not count")
    if old:
        _compare(old, document, to_stderr=as_json)


def _measure(
    ops: Sequence[str], families: Sequence[int], sources: Sequence[int], with_peer: bool, **settings: Any
) -> dict[str, Any]:
    from bench import ovs_dpdk
    from bench.control_net import BenchError, interruptible
    from bench.core import Settings, Unmeasurable, WrongResult, run_all, variants

    todo = variants(ops, Settings(**settings), families, sources)
    beside = {ovs_dpdk.NAME: partial(ovs_dpdk.beside, todo[0][1])} if with_peer else {}
    try:
        with interruptible():
            return run_all(todo, lambda text: click.echo(text, err=True), beside)
    except (WrongResult, Unmeasurable, BenchError) as error:
        raise Failure(str(error)) from None


def _count(document: dict[str, Any], old: dict[str, Any] | None, required: bool) -> None:
    """Adds instructions to the document's results, where this machine can, counted as the old ones were."""
    from bench.compare import figures
    from bench.instructions import Uncounted, count

    counts = figures(old).counts if old else None
    valgrind = counts is not None and counts.by.startswith("valgrind")

    wanted = list(dict.fromkeys((result["op"], result["family"]) for result in document["results"]))
    click.echo(f"counting instructions of {len(wanted)} operations", err=True)
    try:
        counts = count(wanted, valgrind)
    except Uncounted as error:
        click.echo(f"{'error' if required else 'warning'}: instructions are not counted: {error}", err=True)
        if required:
            sys.exit(1)
        return
    document["counted"] = {"by": counts.by, "compiler": counts.compiler}
    for result in document["results"]:
        result["instructions"] = counts.instructions[f"{result['op']}/{result['family']}"]


def _compare(old: dict[str, Any], new: dict[str, Any], to_stderr: bool) -> None:
    from bench.compare import compare, figures, lines

    comparison = compare(figures(old), figures(new))
    for line in lines(comparison):
        click.echo(line, err=to_stderr)
    if comparison.unjudged:
        click.echo(f"warning: instructions are not judged: {comparison.unjudged}", err=True)
    for line in comparison.risen:
        click.echo(f"error: {line}", err=True)
    if comparison.risen:
        sys.exit(1)


def _print_table(document: dict[str, Any]) -> None:
    results = document["results"]
    roofs = any("roof" in r for r in results)
    head = f"{'op':<18} {'records':>10} {'flows':>9} {'clocks/packet (min-max)':>26} {'Mpps':>7}"
    head += f" {'roof (min-max)':>26} {'ratio':>6} {'bar':>5}" if roofs else ""
    click.echo(head + (" instructions" if "counted" in document else ""))
    for r in results:
        line = f"{_name(r):<18} {r['records']:>10,} {r['flows']:>9,}"
        line += f" {_clocks(r):>26} {r['mpps']['median']:>7.1f}"
        if "roof" in r:
            line += f" {_clocks(r['roof']):>26} {r['ratio']:>6.2f} {r['bar']:>5.2f}"
        elif roofs:
            line += " " * 40
        click.echo(line + (f" {r['instructions']:>12.1f}" if "instructions" in r else ""))
    _print_scaling(results)
    for name, peer in document.get("peers", {}).items():
        title = f"{name}, GRE push"
        click.echo(f"{title:<18} {'':>10} {peer['flows']:>9,} {_clocks(peer):>26}")


def _name(result: Mapping[str, Any]) -> str:
    family = "/6" if result["family"] == 6 else ""
    return str(result["op"]) + family + (f"/{result['sources']}" if "sources" in result else "")


def _print_scaling(results: Sequence[Mapping[str, Any]]) -> None:
    """Of those of which it was measured."""
    for r in results:
        if "scaling" not in r:
            continue
        found = r["scaling"]
        text = f"{_name(r)}: {found['workers']} workers pass {measuring.spread(found['ratio'])} times as much"
        if "roof" in found:
            text += f", of the roof {measuring.spread(found['roof'])}"
        if "must" in found:
            text += f"; must {found['must']}, aim {found['aim']}"
        click.echo(text)
    cores = {
        f"cpu{cpu}: {who}" for r in results if "scaling" in r for cpu, who in r["scaling"]["cores"].items()
    }
    if cores:
        click.echo(f"CPUs that share a core, as the kernel knows it: {'; '.join(sorted(cores))}")


def _clocks(result: Mapping[str, dict[str, float]]) -> str:
    clocks = result["clocks"]
    return f"{clocks['median']:.1f} ({clocks['min']:.1f}-{clocks['max']:.1f})"


@command.command("control")
@click.option(
    "--records",
    "counts",
    multiple=True,
    type=click.IntRange(2, 10_000_000),
    help="Lookup records; repeatable.  [default: 1,000, 100,000 and 1,000,000]",
)
@click.option(
    "--hosts",
    default=None,
    type=click.IntRange(3, 65_000),
    help="Behind them.  [default: one for 500 records, 100 at least]",
)
@click.option(
    "--changes", default=200, show_default=True, type=click.IntRange(1, 100_000), help="To time, one by one."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def control(counts: tuple[int, ...], hosts: int | None, changes: int, as_json: bool) -> None:
    """From the store to packets: a real agent and a real data plane in network namespaces.

    How long a host takes to learn all records, and how long a change of one port takes from the return of its
    commit to the first packet by it. Needs root. Exit status 1 if a change does not arrive.

    \b
    Example:
      isolane bench control --records 100000 --changes 500 --json
    """
    from bench.control import Settings, run_all
    from bench.control_plan import default_hosts, least_hosts

    counts = counts or CONTROL_RECORDS
    least = least_hosts(max(counts))
    if hosts is not None and hosts < least:
        raise click.BadParameter(f"{max(counts)} records need {least} hosts", param_hint="--hosts")
    settings = [Settings(each, hosts or default_hosts(each), changes) for each in counts]
    measuring.report(partial(run_all, settings), _print_control, as_json)


def _print_control(document: dict[str, Any]) -> None:
    results = document["results"]
    titles = ("records", "load s", "compile/s", "push/s", "table/s", "p50 ms", "p99 ms", "host ms", "MiB")
    click.echo("  ".join(f"{title:>11}" for title in titles))
    for r in results:
        cells = (
            f"{r['records']:,}",
            f"{r['load']['seconds']['median']:.2f}",
            *(f"{r[part]['recordsPerSecond']:,}" for part in ("compile", "push", "table")),
            f"{r['change']['p50']:.2f}",
            f"{r['change']['p99']:.2f}",
            f"{r['newHost']['p99']:.3f}",
            f"{r['agentRss'] / (1 << 20):,.0f}",
        )
        widths = (max(len(title), 11) for title in titles)
        click.echo("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))


@command.command("validation")
@click.option(
    "--ports", default=1_000_000, show_default=True, type=click.IntRange(2, 10_000_000), help="In all."
)
@click.option(
    "--hosts",
    default=None,
    type=click.IntRange(3, 65_000),
    help="That have them.  [default: one for 500 ports, 100 at least]",
)
@click.option(
    "--changes", default=200, show_default=True, type=click.IntRange(1, 100_000), help="To time, one by one."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def validation(ports: int, hosts: int | None, changes: int, as_json: bool) -> None:
    """How long it takes to find an intent right: all of it, and one changed port.

    The bars beside the figures are those of a million ports on 2,000 hosts.

    \b
    Example:
      isolane bench validation --ports 100000 --json
    """
    from bench.control_net import interruptible
    from bench.control_plan import default_hosts, least_hosts
    from bench.validation import Settings, run

    least = least_hosts(ports)
    if hosts is not None and hosts < least:
        raise click.BadParameter(f"{ports} ports need {least} hosts", param_hint="--hosts")
    with interruptible():  # what it has in /tmp goes with it
        document = run(
            Settings(ports, hosts or default_hosts(ports), changes), lambda text: click.echo(text, err=True)
        )
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print_validation(document)


def _print_validation(document: dict[str, Any]) -> None:
    whole, change, bars = document["whole"], document["change"], document["bars"]
    click.echo(f"{document['ports']:,} ports on {document['hosts']:,} hosts")
    rows = (
        ("whole validation, s", f"{whole['seconds']:.2f}", bars["wholeSeconds"]),
        ("peak memory, GiB", f"{whole['peakBytes'] / (1 << 30):.2f}", bars["peakGiB"]),
        ("one changed port, ms", f"{change['p50']:.2f}", bars["changeMilliseconds"]),
        ("  99th percentile", f"{change['p99']:.2f}", ""),
    )
    for title, figure, bar in rows:
        click.echo(f"{title:<22} {figure:>8}  {f'bar {bar:g}' if bar else ''}".rstrip())


for each in (*bench_contests.COMMANDS, bench_report.report):
    command.add_command(each)
