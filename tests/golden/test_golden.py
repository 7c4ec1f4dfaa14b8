"""Golden cases: a directory a case, with what came in, what went out and the counters of `isolane replay`.

Three things must be the same: what the row of cases.py says (built by scapy), what the directory holds, and
what the core does, packet by packet and in batches. `pytest tests/golden --regen` writes the directories
anew; the difference is for people to read.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scapy.layers.l2 import Ether

from tests.golden import captures
from tests.golden.captures import Frames
from tests.golden.cases import CASES
from tests.golden.table import Case
from tests.golden.world import HOST
from tools.verbs.replay import command

HERE = Path(__file__).parent
MANIFEST = HERE / "manifest.yaml"


def replay(case: Path, out: Path, batch: int) -> dict[str, Any]:
    manifest = case / "manifest.yaml"
    inputs = [f"--in={path.stem}={path}" for path in sorted((case / "in").glob("*.pcap"))]
    arguments = [str(manifest if manifest.exists() else MANIFEST), "--host", HOST, "--out-dir", str(out)]
    result = CliRunner().invoke(command, [*arguments, *inputs, "--batch", str(batch)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    counters: dict[str, Any] = json.loads((out / "counters.json").read_text())
    return counters


def readable(ports: dict[str, Frames]) -> dict[str, list[str]]:
    """For the difference that pytest prints."""
    return {
        port: [f"{time} {frame.hex()} {describe(frame)}" for time, frame in f] for port, f in ports.items()
    }


def describe(frame: bytes) -> str:
    return repr(Ether(frame)) if len(frame) >= len(Ether()) else "too short"


def balance(counters: dict[str, Any]) -> int:
    came = counters["received"] + counters["originated"]
    went = sum(counters[name] for name in ("sent", "dropped", "consumed", "held"))
    return int(came - went)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    directory = HERE / case.name
    if request.config.getoption("--regen", False):
        regenerate(case, directory, tmp_path / "regen")
    if case.manifest:
        assert (directory / "manifest.yaml").read_text() == case.manifest.read_text()
    counters = replay(directory, tmp_path / "64", 64)
    sent = captures.directory(tmp_path / "64")
    assert readable(sent) == readable({port: sorted_by_time(f) for port, f in case.outputs().items()})
    assert counters == case.counters(list(counters["ports"]))
    assert balance(counters) == 0
    assert readable(captures.directory(directory / "in")) == readable(case.inputs())
    assert readable(captures.directory(directory / "out")) == readable(sent)
    assert (directory / "counters.json").read_bytes() == (tmp_path / "64" / "counters.json").read_bytes()
    replay(directory, tmp_path / "1", 1)
    assert files(tmp_path / "1") == files(tmp_path / "64")


def test_every_directory_has_a_row() -> None:
    directories = sorted(path.parent.name for path in HERE.glob("*/counters.json"))
    assert directories == sorted(case.name for case in CASES)


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def sorted_by_time(frames: Frames) -> Frames:
    return sorted(frames, key=lambda frame: frame[0])


def regenerate(case: Case, directory: Path, scratch: Path) -> None:
    """Inputs from the row, the rest from the core. Only captures that hold a packet are kept."""
    if directory.exists():
        shutil.rmtree(directory)
    for part in ("in", "out"):
        (directory / part).mkdir(parents=True)
    if case.manifest:
        shutil.copy(case.manifest, directory / "manifest.yaml")
    for port, frames in case.inputs().items():
        (directory / "in" / f"{port}.pcap").write_bytes(captures.encode(frames))
    replay(directory, scratch, 64)
    for port in captures.directory(scratch):
        shutil.copy(scratch / f"{port}.pcap", directory / "out")
    shutil.copy(scratch / "counters.json", directory)
