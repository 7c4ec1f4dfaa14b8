"""What a wheel needs is in it: commands work in an environment of their own, outside a checkout."""

import json
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from tests.native import ROOT
from tests.package.installed import Installed

PACKAGES = ("dataplane", "policy", "tools", "bench")
DEVELOPERS = {"dataplane/binding/_build.py", "dataplane/host/bpf_compile.py"}


@pytest.fixture
def example(installed: Installed) -> Path:
    path = installed.directory / "blue-red.yaml"
    path.write_text((ROOT / "examples" / "blue-red.yaml").read_text())
    return path


def test_every_module_is_in_it(wheel: Path) -> None:
    listed = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        *(f"{name}/*.py" for name in PACKAGES),
    ]
    ours = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    with ZipFile(wheel) as file:
        inside = {name for name in file.namelist() if name.split("/")[0] in PACKAGES}
    modules = {name for name in inside if name.endswith(".py")}
    assert modules == {name for name in ours if (ROOT / name).exists()} - DEVELOPERS
    assert inside - modules == {
        "bench/instructions.json",
        "dataplane/binding/_core.abi3.so",
        "dataplane/binding/_ffi.pyi",
        "tools/demo/blue-red.yaml",
    }


def test_version(installed: Installed) -> None:
    assert installed("--version").stdout.startswith("isolane 0.")


def test_bench_core(installed: Installed) -> None:
    words = ["--records", 1000, "--flows", 1000, "--seconds", 0.1, "--json"]
    done = installed("bench", "core", "--op", "push", *words)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert (result["op"], result["drops"]) == ("push", 0)


def test_instructions_are_counted_in_a_checkout_only(installed: Installed) -> None:
    done = installed("bench", "core", "--op", "push", "--records", 8, "--seconds", 0.1, "--instructions")
    assert "only a checkout has the program that counts" in done.stderr
    assert "Traceback" not in done.stderr


def test_replay(installed: Installed, example: Path) -> None:
    captured = installed.directory / "in.pcap"
    ping = (
        Ether(src="02:bb:00:00:00:10", dst="02:15:0a:00:00:01") / IP(src="10.1.1.10", dst="10.1.1.1") / ICMP()
    )
    wrpcap(str(captured), [ping])
    done = installed("replay", example, "--host", "h1", "--in", f"blue-web={captured}", "--out-dir", "out")
    assert done.returncode == 0, done.stderr
    counters = json.loads((installed.directory / "out" / "counters.json").read_text())
    assert (counters["received"], counters["drops"]) == (1, {})


def test_compile_check_and_apply(installed: Installed, example: Path) -> None:
    compiled = installed("compile", example, "--host", "h1", "-o", "json")
    assert json.loads(compiled.stdout)["host"] == "h1", compiled.stderr
    assert installed("check", "-f", example).returncode == 0
    assert installed("apply", "-f", example, "--store", "store.db").returncode == 0
    shown = installed("get", "ports", "--store", "store.db", "-o", "json")
    assert "blue-web" in shown.stdout, shown.stderr


def test_explain(installed: Installed) -> None:
    assert "mac" in installed("explain", "port").stdout


def test_every_command_tells_of_itself(installed: Installed) -> None:
    for command in ([], ["demo"], ["lab"], ["up"], ["agent"], ["dataplane"], ["node"], ["bench", "control"]):
        done = installed(*command, "--help")
        assert done.returncode == 0 and "Usage: isolane" in done.stdout, done.stderr
