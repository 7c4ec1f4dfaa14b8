"""The wheel, and an environment that has it and what it needs, made once a run of tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.native import BIN, ROOT

WHEELS = ROOT / "build" / "wheels"
"""What the program needs (tools/setup.sh): nothing is asked of a network."""


def build_wheel(directory: Path) -> Path:
    """isolane's own wheel; what of the core is compiled already is taken from build/wheel."""
    command: list[object] = [
        BIN / "python",
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    call(
        [*command, "--config-settings=build-dir=build/wheel", "--wheel-dir", directory, ROOT], path=f"{BIN}:"
    )
    (wheel,) = directory.glob("isolane-*.whl")
    return wheel


@dataclass(frozen=True)
class Installed:
    """A virtual environment with nothing but the wheel and its requirements; commands run in `directory`."""

    bin: Path
    directory: Path

    def __call__(self, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """`isolane ARGUMENTS`, which knows of no checkout."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self.bin / "isolane", *map(str, arguments)],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def install(wheel: Path, directory: Path) -> Installed:
    environment = directory / "environment"
    call([sys.executable, "-m", "venv", environment])
    command = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index"]
    call([*command, "--find-links", WHEELS, wheel])
    (directory / "elsewhere").mkdir()
    return Installed(environment / "bin", directory / "elsewhere")


def call(command: Sequence[object], path: str = "") -> None:
    environment = os.environ | {"PATH": path + os.environ["PATH"]}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
