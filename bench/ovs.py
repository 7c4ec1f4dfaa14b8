"""Open vSwitch with its userspace datapath in a network namespace: the two daemons of an instance of its own,
in the foreground, ended by their ids.
"""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType

from bench.control_net import BenchError, wait_until
from dataplane.host import netns

PACKAGE = "openvswitch-switch"
PROGRAMS = ("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl", "ovsdb-tool")
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS = 20.0


class OpenVswitch:
    """BenchError: a command fails, with the end of the logs."""

    def __init__(
        self,
        namespace: str,
        directory: Path,
        stack: ExitStack,
        program: str = "ovs-vswitchd",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """directory: of its database, sockets and logs. stack: ends it. program: the switch. settings: its
        other_config.
        """
        self.directory = directory
        self._namespace = namespace
        self._stack = stack
        self.run("ovsdb-tool", "create", f"{directory}/conf.db", _SCHEMA)
        database = f"unix:{directory}/db.sock"
        self._start("ovsdb-server", f"{directory}/conf.db", f"--remote=p{database}")
        wait_until((directory / "db.sock").exists, "ovsdb-server does not start", _START_SECONDS)
        self.vsctl("--no-wait", "init")
        for name, value in settings.items():
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", f'other_config:{name}="{value}"')
        self.switch = self._start(program, database)
        self._control = directory / f"{Path(program).name}.ctl"

    def add_bridge(self, name: str, *settings: str) -> None:
        bridge = ("set", "bridge", name, "datapath_type=netdev", *settings)
        self.vsctl("add-br", name, "--", *bridge)

    def add_port(self, bridge: str, name: str, *settings: str) -> None:
        interface = ("--", "set", "interface", name, *settings) if settings else ()
        self.vsctl("add-port", bridge, name, *interface)

    def vsctl(self, *words: str) -> None:
        """BenchError: also if the switch can't do what was written, which a status of 0 says too."""
        said = self.run("ovs-vsctl", f"--db=unix:{self.directory}/db.sock", "--timeout=20", *words)
        if "Error detected" in said:
            raise BenchError(said.partition(".  See ")[0])

    def appctl(self, *words: str) -> str:
        """What the switch answers."""
        return self._done("ovs-appctl", "--timeout=20", "-t", str(self._control), *words).stdout

    def run(self, *command: str, text: str | None = None) -> str:
        """What it says on stderr."""
        return self._done(*command, text=text).stderr

    def _done(self, *command: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        done: subprocess.CompletedProcess[str] = netns.call(
            self._namespace,
            subprocess.run,
            command,
            input=text,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"{' '.join(command)}: {done.stderr}{self._logs()}")
        return done

    def _start(self, program: str, *words: str) -> "subprocess.Popen[bytes]":
        log = f"--log-file={self.directory}/{Path(program).name}.log"
        control = self.directory / f"{Path(program).name}.ctl"
        process: subprocess.Popen[bytes] = netns.call(
            self._namespace,
            subprocess.Popen,
            [program, *words, log, f"--unixctl={control}", "--verbose=console:off"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._stack.callback(self._end, process, control)
        return process

    def _environment(self) -> dict[str, str]:
        return {"PATH": _PATH} | dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), str(self.directory))

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.directory.glob("*.log"))

    def _end(self, process: "subprocess.Popen[bytes]", control: Path) -> None:
        """Has a daemon exit and take its devices along, which would outlive it."""
        try:
            with suppress(BenchError, OSError, subprocess.TimeoutExpired):
                self.run("ovs-appctl", "--timeout=5", "-t", str(control), "exit", "--cleanup")
                process.wait(10)
        finally:
            process.kill()
            process.wait()
