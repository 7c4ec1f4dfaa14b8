"""ruff, mypy strict, the stub of the extension, and which package may import what."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.codecheck.stub import stub
from tests.native import BIN, ROOT

PACKAGES = ("dataplane", "policy", "tools", "bench")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
LOWER = {
    "dataplane": (),
    "policy": ("dataplane",),
    "tools": ("dataplane", "policy", "bench"),
    "bench": PACKAGES,
}
"""What each package may import besides itself; tools and bench may use each other, nothing may use them."""


@pytest.mark.parametrize(
    "command", [["ruff", "check", "--quiet", "."], ["mypy", "--no-error-summary"]], ids=lambda c: c[0]
)
def test_linter(command: list[str]) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_stub_is_what_the_header_says() -> None:
    assert (ROOT / "dataplane" / "_ffi.pyi").read_text() == stub()


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
    package = path.relative_to(ROOT).parts[0]
    allowed = {package, *LOWER[package]}
    found = imports(path)
    tops = {name.split(".")[0] for name in found}
    assert not (tops & set(PACKAGES)) - allowed
    assert not tops & {"scapy", "tests", "pytest", "hypothesis"}
    if path != ROOT / "dataplane" / "_ffi.py":
        assert "dataplane._core" not in found
    if package != "bench" and not path.name.startswith("fake"):
        assert "dataplane.fake" not in found, (
            "the naive twin is for tests, and for the sample that bench checks"
        )
