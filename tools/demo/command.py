"""`isolane demo`: two tenants with the same addresses and MACs live on two hosts, and the proof of it.

Every check is one function that returns what was seen or raises. A signal only asks the demo to stop: it is
looked at between checks, so that nothing is left half made, and the lab is taken down whatever happens.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import click

EXAMPLE = resources.files("tools.demo") / "blue-red.yaml"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


@click.command("demo", short_help="Two tenants with the same addresses on two hosts, and the proof.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
def command(as_json: bool) -> None:
    """Build the lab of examples/blue-red.yaml in network namespaces, prove it, and clean up.

    Blue is carried by IP rewrite, Red by NVGRE; their addresses and MACs are the same. Needs root. Exit
    status 1 if a check fails, also when it is interrupted; nothing is left behind.

    \b
    Example:
      isolane demo
      isolane demo --json | jq '.checks[] | select(.ok | not)'
    """
    if os.geteuid() != 0:
        raise click.ClickException("the demo makes network namespaces: run it as root")
    stop = threading.Event()
    with _asking_to_stop(stop), resources.as_file(EXAMPLE) as manifest:
        checks = run(manifest, f"demo{os.getpid()}-", stop, lambda text: click.echo(text, err=True))
    ok = all(check.ok for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print_table(checks)
    sys.exit(0 if ok else 1)


@contextmanager
def _asking_to_stop(stop: threading.Event) -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def run(manifest: Path, prefix: str, stop: threading.Event, say: Callable[[str], None]) -> list[Check]:
    """All checks in a lab whose namespaces carry `prefix`. The lab is gone afterwards."""
    from tools.demo.checks import CHECKS
    from tools.demo.lab import DemoLab

    demo = DemoLab(manifest, prefix, stop, lambda text: say(f"lab {prefix}: {text}"))
    failure = _failure(demo.up, say)
    checks = []
    for name, check in CHECKS.items():
        if stop.is_set():
            failure = failure or "interrupted"
        if failure is None:
            checks.append(_checked(name, partial(check, demo)))
            say(f"{'ok    ' if checks[-1].ok else 'FAILED'} {name}")
        else:
            checks.append(Check(name, False, f"not run: {failure}"))
    say(f"lab {prefix}: cleaning up")
    checks.append(_checked("cleanup", demo.down))
    return checks


def _failure(step: Callable[[], object], say: Callable[[str], None]) -> str | None:
    """The last line of what is wrong, if anything is; all of it is said."""
    try:
        step()
    except Exception as error:
        say(f"error: {error}")
        return _words(error).splitlines()[-1]
    return None


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:
        return Check(name, False, " ".join(_words(error).split()))


def _words(error: Exception) -> str:
    """What nobody foresaw is told with its type."""
    from tools.demo.lab import FORESEEN

    text = str(error).strip()
    return text if isinstance(error, FORESEEN) and text else f"{type(error).__name__}: {text}"


def _print_table(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        verdict = (
            click.style("ok    ", fg="green") if check.ok else click.style("FAILED", fg="red", bold=True)
        )
        click.echo(f"{verdict}  {check.name.ljust(width)}  {check.detail}")
    failed = sum(not check.ok for check in checks)
    click.echo(f"{len(checks)} checks, {f'{failed} failed' if failed else 'all ok'}")
