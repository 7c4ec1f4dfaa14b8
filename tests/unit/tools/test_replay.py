"""The command `isolane replay`: what it writes, and what it refuses; for what the core does see golden/."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.golden import captures
from tests.golden.cases import CASES
from tests.golden.table import START
from tests.golden.world import A, B, frame
from tools.cli import main

MANIFEST = Path(__file__).parents[2] / "golden" / "manifest.yaml"
PORTS = ["blue-a", "blue-b", "blue-e", "gold-a", "green-a", "red-a", "red-b", "red-e", "underlay"]
FRAME = bytes(frame(A.mac, B.mac, A.v4, B.v4))


def run(*arguments: object, manifest: Path = MANIFEST, host: str = "h1") -> Result:
    line = [str(manifest), "--host", host, *map(str, arguments)]
    return CliRunner().invoke(main, ["replay", *line], catch_exceptions=True)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "in.pcap"
    path.write_bytes(captures.encode([(START, FRAME)]))
    return path


def test_writes_a_capture_a_port_and_counters(tmp_path: Path, capture: Path) -> None:
    out = tmp_path / "new" / "out"
    result = run("--in", f"red-a={capture}", "--out-dir", out)
    assert result.exit_code == 0, result.output
    assert (result.stdout, result.stderr) == ("", "1 in, 1 out at red-b\n")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"{p}.pcap" for p in PORTS), "counters.json"]
    )
    assert captures.directory(out) == {"red-b": [(START, FRAME)]}
    counters = json.loads((out / "counters.json").read_text())
    assert list(counters) == [
        "received",
        "originated",
        "sent",
        "dropped",
        "consumed",
        "held",
        "drops",
        "ports",
    ]
    assert list(counters["ports"]) == PORTS
    assert counters["ports"]["red-a"] == {
        "received": 1,
        "originated": 0,
        "sent": 0,
        "dropped": 0,
        "consumed": 0,
        "held": 0,
        "drops": {},
    }
    assert counters["ports"]["red-b"]["sent"] == counters["sent"] == counters["received"] == 1


def test_no_input_is_no_error(tmp_path: Path) -> None:
    assert run("--out-dir", tmp_path / "out").exit_code == 0
    assert captures.directory(tmp_path / "out") == {}


def test_a_port_may_have_several_inputs(tmp_path: Path, capture: Path) -> None:
    later = tmp_path / "later.pcap"
    later.write_bytes(captures.encode([(START, FRAME + b"2"), (START + 1, FRAME)]))
    run("--in", f"red-a={later}", "--in", f"red-a={capture}", "--out-dir", tmp_path / "out")
    assert [frame for _, frame in captures.directory(tmp_path / "out")["red-b"]] == [
        FRAME + b"2",
        FRAME,
        FRAME,
    ]


def test_unknown_port(tmp_path: Path, capture: Path) -> None:
    result = run("--in", f"red-c={capture}", "--out-dir", tmp_path / "out")
    assert result.exit_code == 2
    assert "no port red-c on h1" in result.output
    assert "red-b, red-e" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["red-a", "=x", "red-a=", "red-a=/no/such/file"])
def test_input_that_is_no_port_and_file(tmp_path: Path, text: str) -> None:
    assert run("--in", text, "--out-dir", tmp_path / "out").exit_code == 2


def test_directory_that_is_not_empty(tmp_path: Path, capture: Path) -> None:
    arguments = ("--in", f"red-a={capture}", "--out-dir", tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "not empty" in result.output
    assert run(*arguments, "--force").exit_code == 0
    assert captures.directory(tmp_path)["red-b"] == [(START, FRAME)]


def test_input_that_would_be_overwritten(tmp_path: Path, capture: Path) -> None:
    same = tmp_path / "red-b.pcap"
    capture.rename(same)
    result = run("--in", f"red-b={same}", "--out-dir", tmp_path, "--force")
    assert result.exit_code == 1
    assert captures.decode(same.read_bytes()) == [(START, FRAME)]


def test_snapped_packets_leave_nothing(tmp_path: Path, capture: Path) -> None:
    whole = capture.read_bytes()
    capture.write_bytes(whole + whole[24:32] + (10).to_bytes(4, "little") + whole[36:40] + FRAME[:10])
    result = run("--in", f"red-a={capture}", "--out-dir", tmp_path / "out")
    assert result.exit_code == 1
    assert f"port red-a, packet 2: snapped to 10 of {len(FRAME)} bytes" in result.output
    assert list((tmp_path / "out").iterdir()) == []


def test_file_that_is_no_capture(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no capture")
    result = run("--in", f"red-a={text}", "--out-dir", tmp_path / "out")
    assert result.exit_code == 1
    expected = f"error: {text}: capture for port red-a: unknown file format (malformed)\n"
    assert result.output == expected


def test_pcapng_and_microseconds_go_in(tmp_path: Path, capture: Path) -> None:
    for kind in ("pcapng", "pcap"):
        subprocess.run(["editcap", "-F", kind, capture, tmp_path / kind], check=True)
        assert run("--in", f"red-a={tmp_path / kind}", "--out-dir", tmp_path / f"out-{kind}").exit_code == 0
        assert captures.directory(tmp_path / f"out-{kind}") == {"red-b": [(START, FRAME)]}


def test_capture_that_is_not_of_ethernet(tmp_path: Path, capture: Path) -> None:
    subprocess.run(["editcap", "-T", "linux-sll", capture, tmp_path / "cooked"], check=True)
    result = run("--in", f"red-a={tmp_path / 'cooked'}", "--out-dir", tmp_path / "out")
    assert result.exit_code == 1
    text = "capture for port red-a: link type LINUX_SLL, not Ethernet (malformed)\n"
    assert result.output == f"error: {tmp_path / 'cooked'}: {text}"


def test_truncated_capture_leaves_nothing(tmp_path: Path, capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-1])
    result = run("--in", f"red-a={capture}", "--out-dir", tmp_path / "out")
    assert result.exit_code == 1
    sizes = f"tried to read {len(FRAME)} captured bytes, only got {len(FRAME) - 1}"
    expected = f"error: replay: port red-a, packet 1: truncated dump file; {sizes} (malformed)\n"
    assert result.output == expected
    assert list((tmp_path / "out").iterdir()) == []


def test_a_frame_longer_than_any_packet_is_a_counted_drop(tmp_path: Path, capture: Path) -> None:
    capture.write_bytes(captures.encode([(START, bytes(100_000)), (START, FRAME)]))
    assert run("--in", f"red-a={capture}", "--out-dir", tmp_path / "out").exit_code == 0
    counters = json.loads((tmp_path / "out" / "counters.json").read_text())
    assert counters["ports"]["red-a"]["drops"] == {"bad-offload": 1}
    assert counters["received"] == 2


def test_a_full_disk_leaves_nothing(tmp_path: Path, capture: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "red-b.pcap").symlink_to("/dev/full")
    result = run("--in", f"red-a={capture}", "--out-dir", out, "--force")
    assert result.exit_code == 1
    assert "No space left" in result.output
    assert list(out.iterdir()) == []


def without(tmp_path: Path, text: str) -> Path:
    manifest = tmp_path / "manifest.yaml"
    whole = MANIFEST.read_text()
    assert text in whole
    manifest.write_text(whole.replace(text, ""))
    return manifest


@pytest.mark.parametrize(
    ("text", "subject", "path"),
    [
        (' mac: "02:00:00:00:77:01",', "Host h1", "spec.underlay.mac"),
        (' mac: "02:00:00:00:77:02",', "Host h2", "spec.underlay.mac"),
        (', gatewayMac: "02:00:00:00:77:fe"', "NetworkSite rack1", "gatewayMac"),
    ],
)
def test_mac_that_is_not_stated(tmp_path: Path, text: str, subject: str, path: str) -> None:
    result = run("--out-dir", tmp_path / "out", manifest=without(tmp_path, text))
    assert result.exit_code == 1
    assert subject in result.stderr
    assert path in result.stderr


def test_unknown_host(tmp_path: Path) -> None:
    result = run("--out-dir", tmp_path / "out", host="h9")
    assert result.exit_code == 1
    assert "h1" in result.stderr


@pytest.mark.parametrize("batch", [0, 65])
def test_batch_out_of_range(tmp_path: Path, batch: int) -> None:
    assert run("--out-dir", tmp_path / "out", "--batch", batch).exit_code == 2


def test_all_golden_cases_at_once(tmp_path: Path) -> None:
    """In one run, shifted by a second each: what one case does must not change another's."""
    ports: dict[str, captures.Frames] = {}
    expected: dict[str, captures.Frames] = {}
    for number, case in enumerate(case for case in CASES if not case.manifest):
        for given, kept in ((case.inputs(), ports), (case.outputs(), expected)):
            for port, frames in given.items():
                kept.setdefault(port, []).extend((time + number * 1_000_000_000, f) for time, f in frames)
    for port, frames in ports.items():
        (tmp_path / f"{port}.pcap").write_bytes(captures.encode(frames))
    inputs = [f"--in={port}={tmp_path / port}.pcap" for port in ports]
    assert run(*inputs, "--out-dir", tmp_path / "out").exit_code == 0
    assert captures.directory(tmp_path / "out") == expected


def twins(tmp_path: Path) -> Path:
    """The manifest with one more tenant, whose ports have the names of the first one's."""
    text = MANIFEST.read_text()
    red = [each for each in text.split("---\n") if "tenant: red" in each and "kind: LookupRecord" not in each]
    path = tmp_path / "twins.yaml"
    pink = "---\n".join(red).replace("tenant: red", "tenant: pink")
    path.write_text(f"{text}---\n{pink.replace('vsid: 6', 'vsid: 8')}")
    return path


def test_ports_of_one_name_in_two_tenants(tmp_path: Path, capture: Path) -> None:
    """Their files and counters say whose they are; a bare name could be either's."""
    manifest = twins(tmp_path)
    refused = run("--in", f"red-a={capture}", "--out-dir", tmp_path / "none", manifest=manifest)
    assert refused.exit_code == 2
    assert "no port red-a on h1" in refused.output and "pink.red-a, " in refused.output
    for sent, got in (("pink.red-a", "pink.red-b"), ("red/red-a", "red.red-b"), ("blue-a", "blue-b")):
        out = tmp_path / got
        result = run("--in", f"{sent}={capture}", "--out-dir", out, manifest=manifest)
        assert result.exit_code == 0, result.output
        counters = json.loads((out / "counters.json").read_text())["ports"]
        assert counters[sent.replace("/", ".")]["received"] == 1
        if sent != "blue-a":
            assert captures.directory(out) == {got: [(START, FRAME)]}
