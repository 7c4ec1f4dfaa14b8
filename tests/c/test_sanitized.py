"""The core under sanitizers: its C tests under ASan and UBSan, their suite `stress` under TSan too, and the
tests that drive the core from Python once more under ASan and UBSan.

All that are selected start with the first, as many at a time as there are CPUs for this worker.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from tests.native import LONGEST, ROOT, build, compiler_file, names_in, run_sanitized

UNIT = names_in("tests/c/meson.build", r"^  '(\w+)': '\w+',$")
STRESS = names_in("tests/c/meson.build", r"^  '(\w+)': 'stress',$")
PYTHON = ("tests/oracle", "tests/golden", "tests/unit/dataplane/test_core.py")


TARGETS = {"asan": (), "tsan": tuple(f"tests/c/{name}" for name in STRESS)}


def run_program(kind: str, name: str) -> str:
    return run_sanitized([build(kind, *TARGETS[kind]) / "tests" / "c" / name])


def run_suite(path: str) -> str:
    env = {
        "ISOLANE_TEST_CORE": str(build("asan") / "dataplane" / "_core.abi3.so"),
        "ISOLANE_ORACLE_EXAMPLES": "60",
        "LD_PRELOAD": compiler_file("libasan.so"),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
        "PYTHONMALLOC": "malloc",
    }
    options = ["-q", "-p", "no:cacheprovider", "--capture=fd", "--hypothesis-seed=1"]
    return run_sanitized([sys.executable, "-m", "pytest", *options, ROOT / path], env)


RUNS: dict[str, Callable[[], str]] = {
    **{f"python-{path}": partial(run_suite, path) for path in PYTHON},
    **{f"tsan-{name}": partial(run_program, "tsan", name) for name in STRESS},
    **{f"asan-{name}": partial(run_program, "asan", name) for name in UNIT},
}


@pytest.fixture(scope="session")
def started(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[str]]]:
    selected = [
        item.callspec.params["run"] for item in request.session.items if "started" in item.fixturenames
    ]
    for kind in {"tsan" if run.startswith("tsan-") else "asan" for run in selected}:
        build(kind, *TARGETS[kind])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    pool = ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) // workers))
    yield {run: pool.submit(RUNS[run]) for run in selected}
    pool.shutdown(cancel_futures=True)


@pytest.mark.skipif("ISOLANE_TEST_CORE" in os.environ, reason="this is the run with another core")
@pytest.mark.timeout(LONGEST + 100)
@pytest.mark.parametrize("run", RUNS)
def test_clean(run: str, started: dict[str, Future[str]]) -> None:
    print(started[run].result())
