"""A guest of QEMU in a host's network namespace, with a shell to run commands in it."""

import base64
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dataplane.host import netns
from tests.vm import image

QEMU = "qemu-system-x86_64"
KERNEL_OPTIONS = "quiet console=ttyS0 panic=-1 edd=off nokaslr tsc=reliable mitigations=off"
"""Nothing of it is needed; together they save a third of the time that it takes to boot."""
_BOOT_SECONDS = 60.0
"""For a machine that does much else; alone it takes 2.5."""
_KVM_SECONDS = 4.0
"""Where KVM works, a guest boots in less than one. In some VMs /dev/kvm is there, and no guest ever boots."""


class GuestError(AssertionError):
    """The hypervisor or its guest is not, or does not do, what a test needs."""


@dataclass(frozen=True)
class Nic:
    """device: the TAP, in the hypervisor's namespace; QEMU makes it if it isn't there."""

    device: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]


class Done(NamedTuple):
    status: int
    output: str


class Guest:
    def __init__(
        self,
        namespace: str | None,
        nics: Sequence[Nic],
        directory: Path,
        accelerator: str | None = None,
    ) -> None:
        """In the guest the NICs are eth0 and on, in this order. accelerator: None: the best here."""
        self._namespace, self._nics = namespace, nics
        self._log = directory / "console.log"
        self._initramfs = directory / "initramfs"
        self._accelerator = accelerator or best_accelerator()
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._initramfs.write_bytes(image.initramfs())

    def start(self) -> None:
        """Switches it on; wait_up() waits for it."""
        self._shell, theirs = socket.socketpair()
        command = [*self._command(), "-chardev", f"socket,id=shell,fd={theirs.fileno()}"]
        with theirs, self._log.open("ab") as log:
            self._process = netns.call(
                self._namespace,
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )
        self._lines = self._shell.makefile("r")

    def kill(self) -> None:
        """The hypervisor, at once, as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
            self._lines.close()
            self._shell.close()

    def wait_up(self, seconds: float = _BOOT_SECONDS) -> None:
        """Until the guest has booted; it then has its addresses."""
        line = self._read(seconds)
        if line != "up":
            raise GuestError(f"the guest says {line!r}; {self._said()}")
        commands = [
            f"ip link set eth{number} up && ip addr add {address} dev eth{number}"
            for number, nic in enumerate(self._nics)
            for address in nic.addresses
        ]
        tentative = "while ip addr | grep tentative; do sleep 0.1; done"
        self.check(" && ".join([*commands, tentative]))

    def reboot(self) -> None:
        """By its own wish; it's up again afterwards."""
        self._send("reboot -f")
        self.wait_up()

    def run(self, command: str, seconds: float = 30) -> Done:
        """In a shell of the guest, one after another."""
        self._send(command)
        number, status, output = self._read(seconds).split(" ")
        if number != str(self._number):
            raise GuestError(f"{command}: an answer to another: {number}")
        return Done(int(status), base64.b64decode(output).decode())

    def check(self, command: str, seconds: float = 30) -> str:
        """What it printed. GuestError: it failed."""
        done = self.run(command, seconds)
        if done.status != 0:
            raise GuestError(f"{command}: exit {done.status}: {done.output}")
        return done.output

    def begin(self, name: str, command: str) -> None:
        """In the background; what it prints goes to /tmp/NAME."""
        aside = f"({command}; touch /tmp/{name}.ended) >/tmp/{name} 2>/tmp/{name}.wrong &"
        self.check(f"rm -f /tmp/{name}.ended; {aside}")

    def wait_for(self, name: str) -> None:
        """The end of what has begun."""
        self.check(f"until [ -e /tmp/{name}.ended ]; do sleep 0.1; done")

    def _command(self) -> list[str]:
        command = [QEMU, "-accel", self._accelerator, "-machine", "pc", "-m", "160"]
        command += ["-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio"]
        command += ["-kernel", str(image.KERNEL), "-initrd", str(self._initramfs), "-append", KERNEL_OPTIONS]
        command += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell"]
        if self._accelerator == "kvm":
            command += ["-cpu", "host"]
        for nic in self._nics:
            command += ["-netdev", f"tap,id={nic.device},ifname={nic.device},script=no,downscript=no"]
            options = f"netdev={nic.device},mac={nic.mac},host_mtu={nic.mtu},romfile="
            command += ["-device", f"virtio-net-pci,{options}"]
        return command

    def _send(self, command: str) -> None:
        self._number += 1
        words = base64.b64encode(command.encode()).decode()
        self._shell.sendall(f"{self._number} {words}\n".encode())

    def _read(self, seconds: float) -> str:
        self._shell.settimeout(seconds)
        try:
            line = self._lines.readline()
        except OSError:  # too late; and so is whatever is read after it
            raise GuestError(f"the guest says nothing for {seconds} s; {self._said()}") from None
        if not line:
            raise GuestError(f"the hypervisor has ended; {self._said()}")
        return line.rstrip("\n")

    def _said(self) -> str:
        return f"on its console: {self._log.read_text(errors='replace')[-2000:]}"


def lacking() -> str | None:
    """Why no guest can be started, if so."""
    return f"{QEMU} is not installed" if shutil.which(QEMU) is None else image.missing()


@cache
def best_accelerator() -> str:
    """kvm where a guest boots by it, else tcg."""
    if not Path("/dev/kvm").exists():
        return "tcg"
    with tempfile.TemporaryDirectory() as directory:
        guest = Guest(None, [], Path(directory), "kvm")
        try:
            guest.start()
            guest.wait_up(_KVM_SECONDS)
        except GuestError:
            return "tcg"
        finally:
            guest.kill()
    return "kvm"
