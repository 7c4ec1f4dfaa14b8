"""The demo itself: it passes, and it leaves nothing behind, wherever it is stopped."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from dataplane.host import locks, netns
from dataplane.process import instances
from tests.native import BIN

SECONDS = 60
NAMES = [
    "ping.blue.cross.v4",
    "ping.blue.cross.v6",
    "ping.blue.local.v4",
    "ping.blue.local.v6",
    "ping.red.cross.v4",
    "ping.red.cross.v6",
    "ping.red.local.v4",
    "ping.red.local.v6",
    "tcp.blue.cross.v4",
    "tcp.blue.cross.v6",
    "tcp.blue.local.v4",
    "tcp.blue.local.v6",
    "tcp.red.cross.v4",
    "tcp.red.cross.v6",
    "tcp.red.local.v4",
    "tcp.red.local.v6",
    "route.blue.cross.v4",
    "route.blue.cross.v6",
    "route.blue.local.v4",
    "route.blue.local.v6",
    "gateway.blue.v4",
    "gateway.blue.v6",
    "gateway.red.v4",
    "gateway.red.v6",
    "isolation.address",
    "isolation.mac",
    "isolation.forged-ca",
    "isolation.forged-mac",
    "isolation.forged-pa",
    "isolation.host",
    "wire.blue.only-pas",
    "wire.red.vsid-flowid",
    "wire.checksums",
    "throughput.blue",
    "throughput.red",
    "cleanup",
]


def start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [BIN / "isolane", "demo", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def left_behind(pid: int) -> list[str]:
    """Of the demo with this process id: namespaces, sockets, state files, processes."""
    prefix = f"demo{pid}-"
    found = [
        str(path)
        for base in (netns.DIRECTORY, instances.RUN_DIRECTORY, locks.DIRECTORY)
        for path in base.rglob(f"{prefix}*")
    ]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if prefix.encode() in (process / "cmdline").read_bytes():
                found.append(str(process))
        except OSError:
            continue
    return found


def test_passes() -> None:
    process = start()
    began = time.monotonic()
    try:
        output, progress = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    document = json.loads(output)
    failed = [check for check in document["checks"] if not check["ok"]]
    assert not failed, progress
    assert (document["ok"], process.returncode) == (True, 0)
    assert [check["name"] for check in document["checks"]] == NAMES
    details = {check["name"]: check["detail"] for check in document["checks"]}
    assert all("left red-" in details[name] for name in NAMES if name.startswith("isolation."))
    assert all("Gbit/s" in details[name] for name in NAMES if name.startswith("throughput."))
    assert left_behind(process.pid) == []
    assert time.monotonic() - began < SECONDS


def stop_at(line: str, number: signal.Signals, whole_group: bool) -> tuple[dict[str, Any], int]:
    """Sends a signal once `line` is in the progress, and again a moment later, as impatient people do."""
    process = start()
    try:
        assert process.stderr is not None
        assert process.stdout is not None
        for text in process.stderr:
            if line in text:
                break
        else:
            pytest.fail(f"no {line!r} in the progress")
        send = os.killpg if whole_group else os.kill
        send(process.pid, number)
        process.stderr.readline()
        send(process.pid, number)
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert left_behind(process.pid) == []
    return json.loads(output), process.returncode


@pytest.mark.parametrize(
    ("line", "number", "whole_group"),
    [
        ("namespaces", signal.SIGINT, True),
        ("starting h1", signal.SIGTERM, False),
        ("resolving", signal.SIGINT, False),
        ("ok     isolation.address", signal.SIGTERM, False),
        ("ok     wire.checksums", signal.SIGINT, True),
        ("ok     throughput.blue", signal.SIGINT, False),
        ("cleaning up", signal.SIGINT, True),
    ],
)
def test_leaves_nothing_when_it_is_stopped(line: str, number: signal.Signals, whole_group: bool) -> None:
    document, status = stop_at(line, number, whole_group)
    checks = {check["name"]: check for check in document["checks"]}
    assert list(checks) == NAMES
    assert checks["cleanup"]["ok"], checks["cleanup"]["detail"]
    if line == "cleaning up":
        assert (document["ok"], status) == (True, 0)
        return
    assert (document["ok"], status) == (False, 1)
    assert checks["throughput.red"]["detail"].endswith("interrupted")
    assert not checks["throughput.red"]["ok"]
