"""What tests of agents on two hosts have in common: VMs, commands, what is said, devices of namespaces."""

import json
import os
import subprocess
from typing import Any

from pyroute2 import IPRoute

from dataplane.host import bpf_programs, filters, links
from tests.native import BIN
from tests.netns.sites import (
    STABLE,
    Site,
    Vm,
)

VMS = {vm.name: vm for vm in STABLE}
PAIRS = [
    (VMS["blue-web"], VMS["blue-app"]),
    (VMS["blue-web"], VMS["blue-api"]),
    (VMS["red-web"], VMS["red-app"]),
    (VMS["red-web"], VMS["red-api"]),
]
"""On two hosts and on one, by rewrite and by NVGRE."""
NEW = Vm("new", "blue", "h1", 50)
MOVED = Vm("new", "blue", "h2", 50, netns="new-there")


def isolane(site: Site, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "ISOLANE_STORE": str(site.location)}
    command = [BIN / "isolane", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def apply(site: Site, text: str) -> "subprocess.CompletedProcess[str]":
    path = site.directory / "applied.yaml"
    path.write_text(text)
    return isolane(site, "apply", "-f", str(path), "--wait", "--timeout", "20")


def node_status(site: Site, host: str) -> Any:
    done = isolane(site, "node", "status", "--instance", site.nodes[host].instance, "-o", "json")
    return json.loads(done.stdout)


def records_of(site: Site, host: str, vm: Vm) -> list[Any]:
    with site.client(host) as client:
        return [each for each in client.records() if each["customerAddress"] == vm.address]


def problems_of(site: Site, host: str) -> list[str]:
    """As the agent that runs says."""
    agent = node_status(site, host)["agent"]
    found: list[str] = agent.get("problems", []) if agent.get("pid") == site.nodes[host].agent_pid else []
    return found


def link_named(name: str) -> links.Link:
    with IPRoute() as ip:
        return links.get(ip, name)


def set_link(name: str, **settings: object) -> None:
    links.set_link(link_named(name).index, **settings)


def has_filter(name: str) -> bool:
    program = bpf_programs.DIVERT if name == "u1" else bpf_programs.DROP
    with IPRoute() as ip:
        return filters.has_filter(ip, links.get(ip, name), filters.Way.IN, program)


def drop_filter(name: str) -> None:
    with IPRoute() as ip:
        ip.tc("del", "clsact", links.get(ip, name).index)


def delete_link(name: str) -> None:
    with IPRoute() as ip:
        ip.link("del", index=links.get(ip, name).index)


def agent_of(site: Site, host: str) -> int:
    with site.client(host) as client:
        pid: int = client.status()["agent"].get("pid", 0)
        return pid
