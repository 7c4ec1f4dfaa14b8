"""Open vSwitch with its userspace datapath as the host of one VM: an NVGRE endpoint that shares no code
with us.

It resolves provider next hops by ARP itself and floods its VM's ARP and ND through the tunnel; nothing on
either side is told a neighbour.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dataplane import netns
from tests.netns.labs import wait_until

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


@dataclass(frozen=True)
class Tunnel:
    """What the bridge is told: its own PA with prefix length, and VM MAC -> PA of the host behind which it
    is.
    """

    address: str
    vsid: int
    remotes: Mapping[str, str]


@contextmanager
def open_vswitch(
    namespace: str, device: str, mac: str, tunnel: Tunnel, vm_device: str, directory: Path
) -> Iterator[None]:
    """Runs in `namespace` with `device` as its way to the provider network and the VM behind `vm_device`."""
    with ExitStack() as stack:
        ovs = _Ovs(namespace, directory, stack)
        ovs.run(
            "sysctl", "-q", f"net.ipv4.conf.{device}.rp_filter=1"
        )  # keeps the host's stack off its packets
        ovs.vsctl(
            "add-br",
            "phy",
            "--",
            "set",
            "bridge",
            "phy",
            "datapath_type=netdev",
            f"other-config:hwaddr={mac}",
        )
        ovs.vsctl("add-port", "phy", device)
        ovs.run("ip", "addr", "add", tunnel.address, "dev", "phy")
        ovs.run("ip", "link", "set", "phy", "up")
        ovs.vsctl("add-br", "int", "--", "set", "bridge", "int", "datapath_type=netdev", "fail-mode=secure")
        ovs.vsctl("add-port", "int", vm_device, "--", "set", "interface", vm_device, "ofport_request=1")
        local = f"options:local_ip={tunnel.address.partition('/')[0]}"
        options = ("type=gre", "ofport_request=2", "options:remote_ip=flow", "options:key=flow", local)
        ovs.vsctl("add-port", "int", "nvgre", "--", "set", "interface", "nvgre", *options)
        ovs.run("ovs-ofctl", "add-flows", f"unix:{directory}/int.mgmt", "-", text="\n".join(_flows(tunnel)))
        yield


def _flows(tunnel: Tunnel) -> Iterator[str]:
    """FlowID: the lowest byte of the TCP or UDP source port, else 0x11. What comes in is matched without
    it.
    """
    key = tunnel.vsid << 8
    flow_ids = {
        "tcp": "move:NXM_OF_TCP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
        "tcp6": "move:NXM_OF_TCP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
        "udp": "move:NXM_OF_UDP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
        "udp6": "move:NXM_OF_UDP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
    }
    yield f"priority=10,in_port=2,tun_id={key:#x}/0xffffff00,actions=output:1"
    for mac, pa in tunnel.remotes.items():
        to = f"set_field:{pa}->tun_dst,output:2"
        for protocol, move in flow_ids.items():
            match = f"priority=9,in_port=1,dl_dst={mac},{protocol}"
            yield f"{match},actions=set_field:{key:#x}->tun_id,{move},{to}"
        yield f"priority=8,in_port=1,dl_dst={mac},actions=set_field:{key | 0x11:#x}->tun_id,{to}"
    flood = ",".join(f"set_field:{pa}->tun_dst,output:2" for pa in sorted(set(tunnel.remotes.values())))
    group = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
    yield f"priority=7,in_port=1,{group},actions=set_field:{key | 0x11:#x}->tun_id,{flood}"


class _Ovs:
    """The two daemons of one instance, in the foreground, ended by their ids."""

    def __init__(self, namespace: str, directory: Path, stack: ExitStack) -> None:
        self._namespace = namespace
        self._directory = directory
        self._stack = stack
        self.run("ovsdb-tool", "create", f"{directory}/conf.db", SCHEMA)
        database = f"unix:{directory}/db.sock"
        self._start("ovsdb-server", f"{directory}/conf.db", f"--remote=p{database}")
        wait_until((directory / "db.sock").exists, "ovsdb-server does not start")
        self.vsctl("--no-wait", "init")
        self._start("ovs-vswitchd", database)

    def vsctl(self, *words: str) -> None:
        self.run("ovs-vsctl", f"--db=unix:{self._directory}/db.sock", "--timeout=20", *words)

    def run(self, *command: str, text: str | None = None) -> None:
        done = netns.call(
            self._namespace,
            subprocess.run,
            command,
            input=text,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{self._logs()}"

    def _start(self, program: str, *words: str) -> None:
        log = f"--log-file={self._directory}/{program}.log"
        control = self._directory / f"{program}.ctl"
        process = netns.call(
            self._namespace,
            subprocess.Popen,
            [program, *words, log, f"--unixctl={control}", "--verbose=console:off"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(self._end, process, control)

    def _environment(self) -> dict[str, str]:
        directory = str(self._directory)
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), directory),
        }

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self._directory.glob("*.log"))

    def _end(self, process: "subprocess.Popen[bytes]", control: Path) -> None:
        """Has a daemon exit and take its devices along, which would outlive it."""
        with contextlib.suppress(AssertionError):
            self.run("ovs-appctl", "--timeout=5", "-t", str(control), "exit", "--cleanup")
            process.wait(10)
        process.kill()
        process.wait()
