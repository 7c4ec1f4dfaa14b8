"""`isolane up`: what it decides before it opens anything."""

import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from dataplane.host import locks
from policy.compile.compiler import tenant_mtu
from policy.kinds.model import Policy
from policy.service import resolve
from policy.store.locations import open_store
from policy.store.reading import snapshot_of
from tools.cli import main
from tools.run import up
from tools.run.processes import stop_signals
from tools.run.supervisor import StoppedError

EXAMPLE = Path(__file__).parents[3] / "examples" / "blue-red.yaml"


def policy_with(*hosts: tuple[int, str]) -> Policy:
    """The example's policy, its hosts with these underlay MTUs and shared PAs."""
    policy = resolve.load([EXAMPLE])
    changed = tuple(
        replace(host, provider_addresses=(ip_address(pa),), underlay=replace(host.underlay, mtu=mtu))
        for host, (mtu, pa) in zip(policy.hosts, hosts, strict=True)
    )
    return Policy(replace(policy, hosts=changed))


V4, V6 = "192.168.77.1", "fd77::1"


@pytest.mark.parametrize(
    ("first", "second", "mtu"),
    [
        ((1600, V4), (1600, V4), 1500),  # room to spare, but VMs expect an Ethernet
        ((1542, V4), (1542, V4), 1500),
        ((1541, V4), (1541, V4), 1499),
        ((1500, V4), (1500, V4), 1458),
        ((1500, V6), (1500, V6), 1438),
        ((1500, V4), (1500, V6), 1438),  # the longer header counts
        ((9000, V4), (9000, V4), 8958),
        ((9000, V6), (9000, V6), 8938),
        ((9000, V4), (1500, V4), 1458),  # the narrowest host counts
        ((2000, V4), (2000, V4), 1958),
        ((1999, V4), (1999, V4), 1500),
    ],
)
def test_tenant_mtu(first: tuple[int, str], second: tuple[int, str], mtu: int) -> None:
    assert tenant_mtu(policy_with(first, second)) == mtu


def test_an_ignored_signal_does_not_stop() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == {signal.SIGTERM, signal.SIGINT}
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert stop_signals() == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    finally:
        signal.signal(signal.SIGHUP, before)


class OneLook:
    """In place of a Supervisor: what is in the store that the agent is to follow."""

    found: ClassVar[list[str]] = []
    have_ended = True

    def __enter__(self) -> "OneLook":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(
        self, name: str, arguments: list[str], *_first: str, watchdog: float, is_trusted: bool = True
    ) -> None:
        assert watchdog > 0 and is_trusted == (name == "agent")
        if name == "agent":
            with closing(open_store(arguments[arguments.index("--store") + 1], create=False)) as store:
                OneLook.found = sorted(snapshot_of(store, "intent/").items)
            raise StoppedError


@pytest.fixture
def invoke_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(up, "Supervisor", OneLook)
    monkeypatch.setattr(up.signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(up.os, "geteuid", lambda: 0)
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    return lambda *arguments, **options: CliRunner().invoke(main, ["up", *arguments], **options)


def test_standard_input_is_read_once(invoke_up: Callable[..., Result], tmp_path: Path) -> None:
    ran = invoke_up("-f", "-", "--host", "h1", "--instance", "x1", input=EXAMPLE.read_bytes())
    assert ran.exit_code == 0, ran.output
    assert "intent/Host//h1" in OneLook.found
    assert list(tmp_path.iterdir()) == []


def test_an_empty_location_is_none(invoke_up: Callable[..., Result]) -> None:
    """A variable that is not set, as `--store "$STORE"`."""
    ran = invoke_up("--store", "", "-f", str(EXAMPLE), "--host", "h1")
    assert ran.exit_code == 2 and "'--store': empty" in ran.output
