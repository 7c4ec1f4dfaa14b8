"""A guest as a domain of libvirt, of a user who may nothing, on a TAP that isolane made for this user.

`virt-qemu-run` runs it: libvirt's driver as it is, without a daemon.
"""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dataplane.host import netns
from tests.netns.labs import wait_until
from tests.vm import image
from tests.vm.guest import KERNEL_OPTIONS, Guest, Nic

VIRT_QEMU_RUN = "virt-qemu-run"
USER = pwd.getpwnam("nobody")


class Domain(Guest):
    """directory: one that everybody can get to."""

    def __init__(self, namespace: str | None, nics: Sequence[Nic], directory: Path) -> None:
        super().__init__(namespace, nics, directory)
        self._directory = directory
        self._root = directory / "root"
        (self._root / "etc").mkdir(parents=True)
        # by default another daemon, virtlogd, would have to write the console's log
        (self._root / "etc" / "qemu.conf").write_text('stdio_handler = "file"\n')
        shutil.copy(image.KERNEL, directory / "vmlinuz")
        (directory / "domain.xml").write_text(self._xml())
        for path in (directory, *directory.rglob("*")):
            os.chown(path, USER.pw_uid, USER.pw_gid)

    def start(self) -> None:
        environment = {**os.environ, "HOME": str(self._root), "XDG_RUNTIME_DIR": str(self._root)}
        with self._log.open("ab") as log:
            self._process = netns.call(
                self._namespace,
                subprocess.Popen,
                [VIRT_QEMU_RUN, "-r", str(self._root), str(self._directory / "domain.xml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                user=USER.pw_uid,
                group=USER.pw_gid,
                extra_groups=[],
            )
        self._shell = socket.socket(socket.AF_UNIX)
        wait_until(self._is_connected, "no domain", 40)
        self._lines = self._shell.makefile("r")

    def kill(self) -> None:
        """With virt-qemu-run the domain ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
            self._shell.close()

    def _is_connected(self) -> bool:
        with suppress(OSError):
            self._shell.connect(str(self._directory / "shell"))
            return True
        return False

    def _xml(self) -> str:
        here = self._directory
        interfaces = "".join(
            f"""
    <interface type='ethernet'>
      <mac address='{nic.mac}'/>
      <target dev='{nic.device}' managed='no'/>
      <model type='virtio'/>
      <mtu size='{nic.mtu}'/>
    </interface>"""
            for nic in self._nics
        )
        return f"""
<domain type='{"kvm" if self._accelerator == "kvm" else "qemu"}'>
  <name>domain</name>
  <memory unit='MiB'>160</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{here}/vmlinuz</kernel>
    <initrd>{self._initramfs}</initrd>
    <cmdline>{KERNEL_OPTIONS}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='file'><source path='{here}/serial.log'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{here}/shell'/>
      <target type='virtio' name='shell'/>
    </channel>{interfaces}
  </devices>
</domain>
"""
