"""A run of all tests fails by a drop reason that none of them has reached."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.binding.stats import drop_reasons
from tests.native import ROOT

REASONS = [reason.name for reason in drop_reasons()[1:]]
TEST = "from tests import reached\n\ndef test_it(): reached.note({})\n"


def run(directory: Path, reached: list[list[str]], *options: str) -> subprocess.CompletedProcess[str]:
    """Tests that each reach some."""
    (directory / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    for number, some in enumerate(reached):
        (directory / f"test_{number}.py").write_text(TEST.format(some))
    base = ["-m", "pytest", "-q", "-p", "tests.reached", "-p", "no:cacheprovider"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *base, *options]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "workers"])
def test_all_of_them_together(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, [REASONS[::2], REASONS[1::2]], *options)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "workers"])
def test_one_that_is_not_reached_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, [REASONS[:-1], REASONS[:3]], *options)
    assert done.returncode == 1, done.stdout
    assert f"no test has reached: {REASONS[-1]}\n" in done.stdout
    assert "1 failed, 2 passed" in done.stdout.splitlines()[-1], "pytest's own line is the last"


@pytest.mark.parametrize("options", [(".",), ("-k", "test_it"), ("--collect-only",)])
def test_a_run_of_some_tests_need_not_reach_all(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, [REASONS[:2]], *options)
    assert done.returncode == 0, done.stdout
