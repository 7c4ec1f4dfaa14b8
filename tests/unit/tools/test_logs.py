"""What processes that run on log, each in one of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.native import ROOT

SCRIPT = """
import os, structlog
from tools.run import logs
logs.configure("info")
log = structlog.get_logger()
log.info("one", count=1)
log.warning("two", what="\\ud800")
log.error("three")
os.close(2)
log.error("nobody reads it")
os.pipe()
log.error("nor this")
"""


@pytest.mark.parametrize("in_journal", [False, True])
def test_a_line_an_event(in_journal: bool) -> None:
    """And whoever logs goes on when nobody reads it any more."""
    read, write = os.pipe()
    status = os.fstat(write)
    stream = f"{status.st_dev}:{status.st_ino}" if in_journal else "8:1"  # else inherited
    with os.fdopen(read) as reader:
        command, environ = [sys.executable, "-c", SCRIPT], {**os.environ, "JOURNAL_STREAM": stream}
        subprocess.run(command, cwd=ROOT, env=environ, stderr=write, check=True)
        os.close(write)
        lines = reader.read().splitlines()
    priorities = ["<6>", "<4>", "<3>"] if in_journal else ["", "", ""]
    events = [json.loads(line.removeprefix(each)) for line, each in zip(lines, priorities, strict=True)]
    assert [(event["event"], event["level"]) for event in events] == [
        ("one", "info"),
        ("two", "warning"),
        ("three", "error"),
    ]
    assert [line[:3] if in_journal else "" for line in lines] == priorities
    assert events[0]["count"] == 1 and events[0]["timestamp"].endswith("Z")
