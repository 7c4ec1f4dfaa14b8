"""`isolane bench`: how fast, against whom."""

import json
import sys

import click

OPS = ("push", "pop", "rewrite-out", "rewrite-in", "lookup")
CONTROL_RECORDS = (1_000, 100_000, 1_000_000)


@click.group("bench")
def command() -> None:
    """Measure. Run one at a time on an otherwise idle machine.

    \b
    Example:
      isolane bench core --op push --records 1000000 --json
    """


@command.command("core")
@click.option("--op", "ops", multiple=True, type=click.Choice(OPS), help="Repeatable; all when left out.")
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
@click.option("--family", default="4", show_default=True, type=click.Choice(("4", "6")), help="Of CA and PA.")
@click.option(
    "--seconds", default=1.0, show_default=True, type=click.FloatRange(0.1, 600), help="For each operation."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def core(
    ops: tuple[str, ...],
    records: int,
    flows: int | None,
    hosts: int,
    frame: int,
    keys: str,
    family: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Clocks a packet in memory, from a filled rx batch to a batch ready for tx.

    Exit status 1 if a sample of 10,000 packets differs from the naive twin.

    \b
    Example:
      isolane bench core --op push --op pop --records 1000000 --seconds 2
    """
    from bench.core import Settings, Unmeasurable, WrongResult, run_all

    settings = Settings(records, flows or min(records, 1 << 20), hosts, frame, keys, int(family), seconds)
    try:
        document = run_all(ops or OPS, settings, lambda text: click.echo(text, err=True))
    except (WrongResult, Unmeasurable) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print_table(document)
    results = document["results"]
    assert isinstance(results, list)
    if any(result["drops"] for result in results):
        click.echo("error: packets were dropped; the figures do not count", err=True)
        sys.exit(1)


def _print_table(document: dict[str, object]) -> None:
    results = document["results"]
    assert isinstance(results, list)
    click.echo(f"{'op':<12} {'records':>10} {'flows':>9} {'clocks/packet (min-max)':>26} {'Mpps':>7}")
    for r in results:
        clocks = f"{r['clocks']['median']:.1f} ({r['clocks']['min']:.1f}-{r['clocks']['max']:.1f})"
        click.echo(
            f"{r['op']:<12} {r['records']:>10,} {r['flows']:>9,} {clocks:>26} {r['mpps']['median']:>7.1f}"
        )


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
    from bench.control_net import BenchError
    from bench.control_plan import default_hosts, least_hosts

    counts = counts or CONTROL_RECORDS
    least = least_hosts(max(counts))
    if hosts is not None and hosts < least:
        raise click.BadParameter(f"{max(counts)} records need {least} hosts", param_hint="--hosts")
    settings = [Settings(each, hosts or default_hosts(each), changes) for each in counts]
    try:
        document = run_all(settings, lambda text: click.echo(text, err=True))
    except BenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print_control(document)


def _print_control(document: dict[str, object]) -> None:
    results = document["results"]
    assert isinstance(results, list)
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
