"""`explain` and `api-resources`."""

import json

from tests.native import ROOT
from tests.unit.tools.shell import Shell


def test_explain(shell: Shell) -> None:
    assert "Host: A machine with a place in the provider network" in shell("explain").stdout
    assert "left out: one that nobody has" in shell("explain", "vmsubnet.vsid").stdout
    assert "fields there: vmSubnet" in shell("explain", "port.x", status=2).stderr
    assert json.loads(shell("explain", "port", "-o", "json").stdout)["properties"]["kind"] == {
        "const": "Port"
    }


def test_the_manifest_reference_is_up_to_date(shell: Shell) -> None:
    assert shell("explain", "-o", "markdown").stdout == (ROOT / "docs" / "manifests.md").read_text()
