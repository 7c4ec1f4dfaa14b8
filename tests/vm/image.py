"""What a guest boots: Debian's cloud kernel, and an initramfs of busybox with a shell that listens.

`tools/setup.sh test` keeps the parts in build/guest.
"""

import stat
from pathlib import Path

from tests.native import ROOT

PARTS = ROOT / "build" / "guest"
KERNEL, BUSYBOX = PARTS / "vmlinuz", PARTS / "busybox"

MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_console",
)
"""In the order in which they need each other."""

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in {" ".join(MODULES)}; do insmod /lib/$module.ko; done
ip link set lo up
mkfifo /tmp/silence
until [ -c "$port" ]; do port=$(echo /dev/vport*p1); done
exec 3<>$port
echo up >&3
while read -r number command <&3; do
    said=$(echo "$command" | base64 -d | sh 2>&1)
    status=$?
    echo "$number $status $(printf %s "$said" | base64 -w0)" >&3
done
"""
"""Commands come and go through a virtio-serial port: `NUMBER COMMAND`, `NUMBER STATUS OUTPUT`, in base64.

/tmp/silence: opened `<>`, a standard input that never ends.
"""


def missing() -> str | None:
    """Which part of a guest is not here."""
    parts = [KERNEL, BUSYBOX, *map(_module, MODULES)]
    return next((str(part.relative_to(ROOT)) for part in parts if not part.exists()), None)


def initramfs() -> bytes:
    archive = Archive()
    for directory in ("bin", "dev", "lib", "proc", "sys", "tmp"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    for module in MODULES:
        archive.add(f"lib/{module}.ko", stat.S_IFREG | 0o644, _module(module).read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, INIT.encode())
    return archive.end()


def _module(name: str) -> Path:
    return PARTS / f"{name}.ko"


class Archive:
    """cpio in the form that the kernel takes: newc, by Documentation/driver-api/early-userspace."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._inode = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        self._append(b"070701" + b"".join(b"%08x" % field for field in fields) + path)
        self._append(content)

    def end(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return bytes(self._text)

    def _append(self, part: bytes) -> None:
        self._text += part + bytes(-len(part) % 4)
