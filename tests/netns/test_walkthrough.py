"""docs/walkthrough.md: every command in it, in order, and what it says that they print."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native import BIN
from tools.lab import build as lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def prefix() -> Iterator[str]:
    prefix = f"walk{os.getpid()}-"
    yield prefix
    with contextlib.suppress(lab.LabError):
        lab.down(prefix)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Commands and what they print, without what is said to vary."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in re.split(r"^# ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


def test_the_walkthrough(prefix: str) -> None:
    """In a lab of its own: with its prefix instead of the one that labs have by default."""
    text = (ROOT / "docs" / "walkthrough.md").read_text().replace(lab.DEFAULT_PREFIX, prefix)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = 0
    for command, printed in steps(text):
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            environment[name] = value
            continue
        if command.startswith("isolane lab "):
            command += f" --prefix {prefix}"
        result = subprocess.run(
            command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )
        parts = (r"\s+".join(map(re.escape, part.split())) for part in printed.split("…"))
        expected = r"\s*" + r".*".join(parts) + r"\s*"
        output = result.stdout + result.stderr
        assert re.fullmatch(expected, output, re.DOTALL), (command, output)
        done += 1
    assert done > 15
    assert not list(Path("/run/netns").glob(f"{prefix}*"))
