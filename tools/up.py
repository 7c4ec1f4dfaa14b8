"""`isolane up`: the data plane of one host, its policy from manifests."""

import os
import secrets
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.processes import check_instance, stop_signals

if TYPE_CHECKING:
    from dataplane.devices import Device
    from policy.model import Attach, Policy, Port

SPIN_US = 20
"""How long an idle worker polls before it blocks."""


@click.command("up", short_help="Run the data plane of this host.")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Manifest; repeatable, all together are one policy.",
)
@click.option("--host", help="Name of the Host to be.  [default: the machine's host name]")
@click.option(
    "--instance",
    callback=check_instance,
    help="Name of the socket, for `isolane node`.  [default: the host's name]",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 8), help="Packet threads.")
@click.option("--netns-prefix", default="", hidden=True, help="Goes before every attach.netns (isolane lab).")
@click.option("--ready-fd", type=int, hidden=True, help="Socket of isolane lab: says go, hears ready.")
def command(
    files: tuple[Path, ...],
    host: str | None,
    instance: str | None,
    workers: int,
    netns_prefix: str,
    ready_fd: int | None,
) -> None:
    """Run the data plane of one host until SIGTERM or Ctrl-C, which remove what it made.

    Prints `ready` on stderr when all ports are attached. Needs root.

    \b
    Example:
      isolane up -f examples/blue-red.yaml --host h1
    """
    if os.geteuid() != 0:
        raise click.ClickException("up opens network devices: run it as root")
    from dataplane.errors import DataplaneError
    from dataplane.links import DeviceError
    from dataplane.server import InstanceError
    from policy import manifest

    host = host or socket.gethostname()
    policy = manifest.load(files)
    if ready_fd is not None and not os.read(ready_fd, 16):
        sys.exit(1)  # the lab died before it had noted that we are there
    stop = stop_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # they wait until all is up, and while it goes
    try:
        with ExitStack() as stack:
            _start(stack, policy, host, instance or host, workers, netns_prefix)
            click.echo("ready", err=True)
            if ready_fd is not None:
                os.write(ready_fd, b"ready\n")
                os.close(ready_fd)
            signal.sigwait(stop)
    except (DataplaneError, DeviceError, InstanceError) as error:
        click.echo(error, err=True)
        sys.exit(1)


def _start(
    stack: ExitStack, policy: "Policy", host_name: str, instance: str, workers: int, netns_prefix: str
) -> None:
    """Bring everything up; the stack takes it down in the opposite order."""
    from dataplane import core, devices, server
    from dataplane.links import DeviceError
    from policy import compiler
    from policy.model import ROUTER_MAC, UNDERLAY_PORT, Driver
    from tools.service import Service

    tables = compiler.compile_host(policy, host_name)
    wanted = compiler.managed_host(policy, host_name).underlay
    if wanted.driver is Driver.AFXDP:
        raise DeviceError(f"underlay {wanted.interface}: driver afxdp is not supported yet")
    pas = [pa.address for pa in tables.provider_addresses if pa.host == host_name]
    underlay = devices.open_underlay(
        wanted.interface, mac=wanted.mac, mtu=wanted.mtu, queues=workers, pas=pas
    )
    stack.callback(underlay.close)
    ports = {
        port.name: _open_port(port, port.attach, compiler.tenant_mtu(policy), workers, netns_prefix, stack)
        for port in policy.ports
        if port.host == host_name and port.attach
    }
    config = core.Config(
        self_host=tables.host_ids[host_name],
        router_mac=bytes.fromhex(ROUTER_MAC.replace(":", "")),
        hash_key=(secrets.randbits(64), secrets.randbits(64)),
        workers=workers,
        spin_us=SPIN_US,
    )
    dataplane = stack.enter_context(core.Dataplane(config))
    dataplane.attach(core.UNDERLAY, underlay.port_config(UNDERLAY_PORT))
    for name, device in ports.items():
        dataplane.attach(tables.port_ids[name], device.port_config(name))
    dataplane.apply(tables.change_set().encode())
    underlay.serve(pas, [in_use.address for in_use in dataplane.neighbours()])
    dataplane.start()
    dataplane.announce()
    service = Service(instance, dataplane, tables, underlay, ports)
    stack.callback(service.close)
    stack.enter_context(server.serve(instance, service.methods))


def _open_port(
    port: "Port", attach: "Attach", mtu: int, queues: int, netns_prefix: str, stack: ExitStack
) -> "Device":
    from dataplane import devices
    from policy.model import AttachKind

    namespace = netns_prefix + attach.netns if attach.netns else None
    match attach.kind:
        case AttachKind.TAP:
            device = devices.open_tap(
                attach.device, namespace=namespace, mac=port.mac, mtu=mtu, queues=queues
            )
        case AttachKind.VETH:
            assert namespace is not None, "the manifest's reader"
            device = devices.open_veth(
                attach.device, namespace=namespace, mac=port.mac, mtu=mtu, queues=queues
            )
        case AttachKind.DEVICE:
            device = devices.open_existing(attach.device, mac=port.mac, mtu=mtu, queues=queues)
    stack.callback(device.close)
    return device
