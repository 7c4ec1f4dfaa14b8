"""Rate limits, from the manifest to the port's row in the core, and back out of it."""

from pathlib import Path

import pytest

from dataplane.binding.core import Dataplane, Frame
from dataplane.binding.errors import ChangeSetError
from dataplane.binding.tables import ChangeSet, PortRow, RowKind, pack_rows, put
from dataplane.twin.reference import FakeDataplane
from policy.compile.compiler import compile_host
from policy.compile.tables import Tables
from policy.kinds import codec
from policy.kinds.model import KINDS, RateLimit
from tests.unit.dataplane.cores import MACS, VSID, config, datagram, memory_port, policy
from tests.unit.manifests import edited, line_of, load, problems

SUBNET = "  vsid: 5001\n"
PORT = '  providerAddresses: [192.168.77.110, "fd77::110"]\n'


def limited(subnet: str = "", port: str = "") -> str:
    return edited(
        (SUBNET, f"{SUBNET}  rateLimit: {subnet}\n" if subnet else SUBNET),
        (PORT, f"{PORT}  rateLimit: {port}\n" if port else PORT),
    )


def of_web(text: str, directory: Path) -> RateLimit:
    (port,) = compile_host(load(text, directory), "h1").ports
    assert port.name == "blue/web"
    return port.limit


# ---- manifests


@pytest.mark.parametrize(
    ("subnet", "port", "limit"),
    [
        ("", "", RateLimit()),
        ("{packetsPerSecond: 5000}", "", RateLimit(5000, 0, 500, 0)),
        ("{packetsPerSecond: 5000}", "{bytesPerSecond: 1000}", RateLimit(0, 1000, 0, 128 << 10)),
        ("", "{packetsPerSecond: 5, bytesPerSecond: 12500000}", RateLimit(5, 12_500_000, 64, 1_250_000)),
        ("", "{packetsPerSecond: 5, burstPackets: 1}", RateLimit(5, 0, 1, 0)),
        ("", "{bytesPerSecond: 1000000000000, burstBytes: 1}", RateLimit(0, 10**12, 0, 1)),
        ("", "{bytesPerSecond: 1000000000000}", RateLimit(0, 10**12, 0, 2**32 - 1)),
    ],
)
def test_the_ports_own_limit_goes_before_its_subnets(
    subnet: str, port: str, limit: RateLimit, tmp_path: Path
) -> None:
    assert of_web(limited(subnet, port), tmp_path) == limit


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("{}", "expected packetsPerSecond or bytesPerSecond, or both"),
        ("{packetsPerSecond: 1, burstBytes: 9}", "means nothing without bytesPerSecond"),
        ("{bytesPerSecond: 1, burstPackets: 9}", "means nothing without packetsPerSecond"),
        ("{packetsPerSecond: 0}", "0 is not in 1..4294967295"),
        ("{bytesPerSecond: 1000000000001}", "1000000000001 is not in 1..1000000000000"),
        ("{bytesPerSecond: many}", "expected an integer"),
    ],
)
def test_what_is_no_limit(wrong: str, text: str, tmp_path: Path) -> None:
    manifest = limited(port=wrong)
    (problem,) = problems(manifest, tmp_path)
    assert text in problem and f"net.yaml:{line_of('rateLimit', manifest)}" in problem


def test_documents_keep_what_was_stated(tmp_path: Path) -> None:
    policy = load(limited("{packetsPerSecond: 5}", "{bytesPerSecond: 7, burstBytes: 9}"), tmp_path)
    web = next(port for port in policy.ports if port.name == "web")
    spec = codec.write(web)
    assert spec["rateLimit"] == {"bytesPerSecond": 7, "burstBytes": 9}
    assert codec.parse(KINDS["Port"], web.tenant, web.name, web.labels, spec) == web


def test_compile_shows_limits_only_where_there_are_some(tmp_path: Path) -> None:
    def tables(text: str) -> Tables:
        return compile_host(load(text, tmp_path), "h1")

    plain, some = tables(limited()).view(), tables(limited("{packetsPerSecond: 5}")).view()
    assert "rateLimits" not in plain
    assert some == plain | {
        "rateLimits": [
            {
                "port": "blue/web",
                "packetsPerSecond": 5,
                "bytesPerSecond": 0,
                "burstPackets": 64,
                "burstBytes": 0,
            }
        ]
    }


# ---- the core


def limit_row(*limit: int) -> bytes:
    return ChangeSet(2, (put([PortRow(1, VSID, MACS[1], *limit)]),)).encode()


def made(engine: type[Dataplane] | type[FakeDataplane]) -> Dataplane | FakeDataplane:
    made = engine(config())
    for vm in (1, 2):
        made.attach(vm, memory_port(f"vm{vm}", MACS[vm]))
    made.apply(ChangeSet(1, policy()).encode())
    return made


def passed(engine: Dataplane | FakeDataplane, frames: int, now: int) -> int:
    for _ in range(frames):
        engine.inject(1, Frame(datagram(1, 2), time=now))
    engine.poll(now)
    return len(engine.collect(2))


@pytest.mark.parametrize("engine", [Dataplane, FakeDataplane])
def test_a_limit_that_changes_begins_with_a_full_bucket(
    engine: type[Dataplane] | type[FakeDataplane],
) -> None:
    second = 10**9
    with made(engine) as dataplane:
        assert passed(dataplane, 200, second) == 200
        dataplane.apply(limit_row(0, 0, 10, 5))
        assert passed(dataplane, 20, second) == 5
        assert passed(dataplane, 20, second + second // 10 * 2) == 2
        dataplane.apply(limit_row(0, 0, 10, 5))  # the same: its bucket stays as empty as it was
        assert passed(dataplane, 20, second + second // 10 * 2) == 0
        dataplane.apply(limit_row(0, 0, 10, 6))
        assert passed(dataplane, 20, second + second // 10 * 2) == 6
        assert dataplane.port_counters(1).drops == {"rate-limit": 15 + 18 + 20 + 14}
        dataplane.apply(limit_row())
        assert passed(dataplane, 20, second + second // 10 * 2) == 20


def test_rows_come_back_and_are_put_back() -> None:
    with made(Dataplane) as engine:
        assert isinstance(engine, Dataplane)
        before, digest = engine.rows(RowKind.PORT), engine.digest(RowKind.PORT)
        row = PortRow(1, VSID, MACS[1], 10**12, 2**32 - 1, 2**32 - 1, 7)
        change = ChangeSet(2, (put([row]),)).encode()
        engine.apply(change)
        engine.holds(change)
        assert pack_rows(RowKind.PORT, [row]) in engine.rows(RowKind.PORT)
        with pytest.raises(ChangeSetError):
            engine.holds(limit_row(10**12, 2**32 - 1, 2**32 - 1, 8))
        assert engine.digest(RowKind.PORT) != digest
        engine.rollback()
        assert (engine.rows(RowKind.PORT), engine.digest(RowKind.PORT)) == (before, digest)
        assert passed(engine, 50, 1) == 50


@pytest.mark.parametrize("limit", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 2**32, 0, 0)])
def test_half_a_limit_is_refused(limit: tuple[int, ...]) -> None:
    with made(Dataplane) as engine, pytest.raises(ChangeSetError, match="needs a rate and a burst"):
        engine.apply(limit_row(*limit))
