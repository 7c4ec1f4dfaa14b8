"""Builds of the core for tests: other compilers and sanitizers than build/py, each in its own directory."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"

SANITIZED = ("-Db_ndebug=false", "-Db_lundef=false", "-Doptimization=1")
BUILDS = {
    "asan": (
        "-Db_sanitize=address,undefined",
        "-Dtests=true",
        "-Dc_args=-fno-sanitize-recover=all",
        *SANITIZED,
    ),
    "tsan": ("-Db_sanitize=thread", "-Dtests=true", "-Dpython=false", *SANITIZED),
    "fuzz": (
        "-Db_sanitize=address,undefined",
        "-Dfuzz=true",
        "-Dpython=false",
        "-Dc_args=-fno-sanitize-recover=all",
        *SANITIZED,
    ),
}
LONGEST = 1100
"""Seconds that one sanitized program may take, on a machine that does much else."""
COMPILERS = {"asan": "gcc", "tsan": "gcc", "fuzz": "clang-14"}


@cache
def build(kind: str, *targets: str) -> Path:
    """The directory of one of BUILDS, in which these are up to date, or all. AssertionError: they do not
    compile.
    """
    directory = ROOT / "build" / kind
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "CC": COMPILERS[kind]}
    if not (directory / "build.ninja").exists():
        _run([BIN / "meson", "setup", directory, ROOT, *BUILDS[kind]], env)
    _run(["flock", directory / ".lock", BIN / "ninja", "-C", directory, "-j2", *targets], env)
    return directory


def _run(command: list[str | Path], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-10000:] + done.stderr[-10000:]


def run_sanitized(
    command: list[str | Path], env: dict[str, str] | None = None, timeout: float = LONGEST
) -> str:
    """Runs a sanitized program; what a sanitizer finds fails. Returns what it printed."""
    options = {
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | options | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"exit {done.returncode}\n{output[-20000:]}"
    return output


def compiler_file(name: str) -> str:
    """The path of a library of gcc's own."""
    done = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def names_in(meson_file: str, pattern: str) -> list[str]:
    """The names listed in a meson.build, one a line, that match a pattern's first group."""
    return re.findall(pattern, (ROOT / meson_file).read_text(), re.MULTILINE)
