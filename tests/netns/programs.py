"""Programs that tests run inside namespaces."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.tcp import PORT, is_listening
from dataplane.host import netns
from tests.netns.labs import wait_until


def run(namespace: str | None, *command: str, timeout: float = 60) -> str:
    """What a command in a namespace prints; AssertionError: it fails."""
    done = attempt(namespace, *command, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def attempt(namespace: str | None, *command: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    return netns.call(
        namespace,
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def background(namespace: str, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that is ended by its id at the end of the context."""
    process = netns.call(
        namespace,
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def iperf3(client: str, server: str, address: str, seconds: int, options: Sequence[str] = ()) -> Any:
    """iperf3's own report of one run from namespace `client` to `address` in namespace `server`; the
    receiver's is in server_output_json.
    """
    with background(server, "iperf3", "--server", "--one-off", "--json", "--bind", address):
        wait_until(lambda: is_listening(server, PORT), "iperf3 does not listen")
        command = ["iperf3", "--client", address, "--time", str(seconds), "--json"]
        command += ["--get-server-output", *options]
        return json.loads(run(client, *command, timeout=seconds + 20))
