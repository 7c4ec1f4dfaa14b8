"""A manifest that is right, and how to make it wrong in one place."""

from pathlib import Path

import pytest

from policy.errors import ManifestError
from policy.kinds.model import Policy
from policy.service import resolve
from tests.fabric import FABRIC

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "blue-red.yaml"

BASE = (
    FABRIC
    + """\
---
kind: VMNetwork
metadata: {name: Blue_VMNet, tenant: blue}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: Blue1, tenant: blue}
spec:
  vmNetwork: Blue_VMNet
  prefixes: [10.1.1.0/24, "fd00:1:1::/64"]
  vsid: 5001
  translation: rewrite
---
kind: VMSubnet
metadata: {name: Blue2, tenant: blue}
spec:
  vmNetwork: Blue_VMNet
  prefixes: [10.1.2.0/24]
  gateways: [10.1.2.254]
  vsid: 5002
---
kind: Port
metadata: {name: web, tenant: blue}
spec:
  vmSubnet: Blue1
  host: h1
  addresses: [10.1.1.10, "fd00:1:1::10"]
  mac: "02:bb:00:00:00:10"
  providerAddresses: [192.168.77.110, "fd77::110"]
  attach: {tap: eth0, netns: blue-web}
---
kind: Port
metadata: {name: app, tenant: blue}
spec:
  vmSubnet: Blue1
  host: h2
  addresses: [10.1.1.20]
  mac: "02:bb:00:00:00:20"
  attach: {veth: eth0, netns: blue-app}
---
kind: Port
metadata: {name: db, tenant: blue}
spec:
  vmSubnet: Blue2
  host: ovs1
  addresses: [10.1.2.20]
  mac: "02:bb:00:00:01:20"
  allowedSources: [10.9.0.0/16]
"""
)


def edited(*edits: tuple[str, str]) -> str:
    """BASE with every (old, new) applied; `old` must occur exactly once."""
    text = BASE
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def load(text: str, directory: Path) -> Policy:
    path = directory / "net.yaml"
    path.write_text(text)
    return resolve.load([path])


def problems(text: str, directory: Path) -> list[str]:
    """What is wrong with a manifest, as printed, without the directory's name."""
    with pytest.raises(ManifestError) as caught:
        load(text, directory)
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def line_of(marker: str, text: str) -> int:
    """The number of the only line that holds `marker`."""
    found = [number for number, line in enumerate(text.splitlines(), start=1) if marker in line]
    assert len(found) == 1, f"{marker!r} is on lines {found}"
    return found[0]
