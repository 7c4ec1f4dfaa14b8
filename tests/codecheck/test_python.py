"""ruff, mypy strict, the stub of the extension, and which room may import what."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.codecheck.stub import stub
from tests.native import BIN, ROOT

PACKAGES = ("dataplane", "policy", "tools", "bench")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
ROOMS = {
    "policy.errors": (),
    "policy.kinds": ("policy.errors",),
    "policy.store": ("policy.errors", "policy.kinds", "dataplane.host"),
    "policy.rules": ("policy.errors", "policy.kinds", "policy.store"),
    "policy.ipam": ("policy.errors", "policy.kinds", "policy.store"),
    "policy.compile": ("policy.errors", "policy.kinds", "policy.store", "policy.rules", "dataplane.binding"),
    "dataplane.binding": (),
    "dataplane.twin": ("dataplane.binding",),
    "dataplane.host": ("dataplane.binding",),
    "dataplane.process": ("dataplane.binding", "dataplane.host"),
    "policy.service": (
        *("policy.errors", "policy.kinds", "policy.store", "policy.rules", "policy.ipam", "policy.compile"),
    ),
    "policy.agent": (
        *("policy.errors", "policy.kinds", "policy.store", "policy.service", "policy.compile"),
        *("dataplane.binding", "dataplane.host", "dataplane.process"),
    ),
    "tools": ("dataplane.binding", "dataplane.host", "dataplane.process", "policy", "bench"),
    "bench": ("dataplane", "policy", "tools"),
}
"""What each room may import besides itself; a package that is named stands for all of its rooms. tools and
bench may use each other, nothing may use them."""


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--quiet", "."],
        ["ruff", "format", "--check", "--quiet", "."],
        ["mypy", "--no-error-summary"],
    ],
    ids=" ".join,
)
def test_linter(command: list[str]) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_stub_is_what_the_header_says() -> None:
    assert (ROOT / "dataplane" / "binding" / "_ffi.pyi").read_text() == stub()


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[1:] == ("__init__",):
        assert not imports(path)
        return
    room = parts[0] if parts[0] in ROOMS else ".".join(parts[:2])
    allowed = {room, *ROOMS[room]}
    found = imports(path)
    ours = {name for name in found if name.split(".")[0] in PACKAGES and name not in PACKAGES}
    foreign = {name for name in ours if not {name.split(".")[0], ".".join(name.split(".")[:2])} & allowed}
    assert not foreign
    assert not {name.split(".")[0] for name in found} & {"scapy", "tests", "pytest", "hypothesis"}
    if path != ROOT / "dataplane" / "binding" / "_ffi.py":
        assert "dataplane.binding._core" not in found


KEYS = ROOT / "policy" / "kinds" / "keys.py"
SLASHED = {KEYS, ROOT / "policy" / "errors.py", ROOT / "policy" / "kinds" / "scalars.py"}
"""Besides keys: qualified names, and prefixes and label keys as users write them."""


def key_prefixes() -> tuple[str, ...]:
    """The values of the constants of keys.py that keys begin with."""
    constants = [
        node.value for node in ast.walk(ast.parse(KEYS.read_text())) if isinstance(node, ast.Constant)
    ]
    return tuple(value for value in constants if isinstance(value, str) and re.fullmatch("[a-z]+/", value))


def handles_keys(path: Path) -> set[str]:
    """What of a file builds keys or takes them apart."""
    prefixes = key_prefixes()
    assert len(prefixes) >= 5
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(prefixes):
            found.add(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            splits = node.func.attr in {"split", "rsplit", "partition", "rpartition"}
            if splits and any(isinstance(arg, ast.Constant) and arg.value == "/" for arg in node.args):
                found.add(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "policy")], ids=str)
def test_keys_are_built_and_taken_apart_in_one_file(path: Path) -> None:
    found = handles_keys(path)
    assert found if path == KEYS else path in SLASHED or not found
