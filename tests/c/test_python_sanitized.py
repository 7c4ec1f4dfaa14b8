"""The tests that drive the core from Python, once more against a core built with ASan and UBSan."""

import os
import subprocess
import sys

import pytest

from tests.native import ROOT, build

SUITES = ("tests/unit/test_core.py", "tests/oracle", "tests/golden")


@pytest.mark.skipif("ISOLANE_TEST_CORE" in os.environ, reason="this is the run with another core")
@pytest.mark.parametrize("suite", SUITES)
def test_suite_is_clean(suite: str) -> None:
    libasan = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    env = os.environ | {
        "ISOLANE_TEST_CORE": str(build("asan") / "dataplane" / "_core.abi3.so"),
        "LD_PRELOAD": libasan,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "ISOLANE_ORACLE_EXAMPLES": "60",
    }
    options = ["-q", "-p", "no:cacheprovider", "--capture=fd", "--hypothesis-seed=1", "--durations=5"]
    command = [sys.executable, "-m", "pytest", *options, suite]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-20000:]
