"""The demo of an installed wheel, outside a checkout."""

import json

from tests.package.installed import Installed


def test_demo(installed: Installed) -> None:
    done = installed("demo", "--json", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] and {check["name"] for check in result["checks"]} >= {"ping.blue.cross.v4", "cleanup"}
