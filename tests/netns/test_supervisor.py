"""What keeps the processes of `isolane up` running."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dataplane.process import instances
from dataplane.process.client import Client, ClientError
from dataplane.process.protocol import Kind
from tests.native import ROOT
from tests.netns.labs import wait_until
from tools.run.supervisor import STOP_SECONDS

SCRIPT = """
import signal, sys
from tools.run.processes import stop_signals
from tools.run.supervisor import Supervisor
signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
with Supervisor() as supervisor:
    supervisor.start("data plane", ["dataplane", "--instance", sys.argv[1]], watchdog=float(sys.argv[2]),
                     is_trusted=False)
    print("ready", flush=True)
    supervisor.run()
    supervisor.end()
sys.exit(0 if supervisor.have_ended else 1)
"""


class Running:
    def __init__(self, watchdog: float) -> None:
        self.instance = f"kept-{os.getpid()}"
        command = [sys.executable, "-c", SCRIPT, self.instance, str(watchdog)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None and self.process.stderr is not None
        assert self.process.stdout.readline() == "ready\n"

    def pid(self) -> int:
        """Of the data plane; 0: there is none that answers."""
        with suppress(ClientError), Client(self.instance, patience=0.2) as client:
            return client.hello()["pid"]
        return 0


@pytest.fixture
def running(cleanup: ExitStack, request: pytest.FixtureRequest) -> Iterator[Running]:
    started = Running(request.param)
    cleanup.enter_context(instances.directory_removed(started.instance))
    cleanup.callback(started.process.wait, 10)
    cleanup.callback(started.process.kill)
    yield started


@pytest.mark.parametrize("running", [1.0], indirect=True)
def test_what_hangs_is_started_again(running: Running) -> None:
    first = running.pid()
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(ClientError, match=r"^hello: no answer within 0.1 s: ") as refused:
        Client(running.instance, patience=0.1).hello()
    assert refused.value.kind == Kind.BUSY
    wait_until(lambda: running.pid() not in (0, first), "not started again", seconds=20)
    running.process.terminate()
    _, said = running.process.communicate(timeout=20)
    assert said == "data plane said nothing for 1 s: killing it\ndata plane ended (-9): starting it again\n"
    assert running.process.returncode == 0
    assert not instances.socket_path(running.instance).exists()


@pytest.mark.parametrize("running", [60.0], indirect=True)
def test_whoever_tells_much_at_the_end_is_not_held_up(running: Running) -> None:
    """More than its socket holds, while nothing but the end is waited for."""
    pid = running.pid()
    os.kill(pid, signal.SIGSTOP)
    running.process.terminate()
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.settimeout(5)
        teller.connect(f"\0isolane-up-{running.process.pid}")
        for _ in range(200):
            teller.send(b"FDSTOREREMOVE=1")
    os.kill(pid, signal.SIGCONT)
    assert running.process.wait(10) == 0
    assert time.monotonic() - begun < STOP_SECONDS


@pytest.mark.parametrize("running", [1.0], indirect=True)
def test_whoever_is_stopped_itself_kills_nobody(running: Running) -> None:
    first = running.pid()
    for _ in range(2):
        running.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, running.process.pid, os.WSTOPPED)
        end = time.monotonic() + 3  # the watchdog's time, and more
        wait_until(lambda end=end: time.monotonic() > end, seconds=5)
        running.process.send_signal(signal.SIGCONT)
    assert running.pid() == first
    running.process.terminate()
    assert running.process.communicate(timeout=20)[1] == ""


@pytest.mark.parametrize("running", [60.0], indirect=True)
def test_the_data_plane_has_nothing_of_ours(running: Running) -> None:
    """No environment, no terminal, no descriptor that leads to one."""
    proc = Path("/proc", str(running.pid()))
    environment = dict(each.split("=", 1) for each in (proc / "environ").read_text().split("\0") if each)
    harmless = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    assert environment.keys() <= {*harmless, "NOTIFY_SOCKET", "WATCHDOG_USEC"}
    session, terminal = (int((proc / "stat").read_text().rpartition(")")[2].split()[at]) for at in (3, 4))
    assert (session, terminal) == (running.pid(), 0)
    assert (proc / "fd" / "0").readlink() == Path("/dev/null")
    ours = {Path(f"/proc/{running.process.pid}/fd/{fd}").readlink() for fd in (1, 2)}
    assert not {each.readlink() for each in (proc / "fd").iterdir()} & ours
    running.process.terminate()
    assert running.process.wait(20) == 0
