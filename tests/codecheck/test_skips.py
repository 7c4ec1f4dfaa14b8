"""Runs of CI fail by a skip that nobody has listed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native import ROOT
from tests.skips import ACCEPTED, Skip

SKIPPED_IN_A_TEST = "import pytest\n\ndef test_it(): pytest.skip('no reason')\n"
SKIPPED_BY_MARK = "import pytest\n\n@pytest.mark.skip(reason='no reason')\ndef test_it(): pass\n"
SKIPPED_AS_A_FILE = "import pytest\npytest.importorskip('no_such_module')\n\ndef test_it(): pass\n"
XFAIL = "import pytest\n\n@pytest.mark.xfail\ndef test_it(): assert False\n"
GOOD = "def test_good(): pass\n"


def run(directory: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_some.py").write_text(text)
    (directory / "test_good.py").write_text(GOOD)
    base = ["-m", "pytest", "-q", "-p", "tests.skips", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command = [sys.executable, *base, "--rootdir", directory, *options, directory]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", [SKIPPED_IN_A_TEST, SKIPPED_BY_MARK, SKIPPED_AS_A_FILE])
def test_an_unlisted_skip_fails_the_run(tmp_path: Path, text: str) -> None:
    done = run(tmp_path, text, "--only-listed-skips")
    assert done.returncode == 1, done.stdout
    assert "test_some.py" in done.stdout.partition("tests/skips.py does not list")[2]
    assert "1 skipped" in done.stdout.splitlines()[-1], "pytest's own line is the last"


@pytest.mark.parametrize(("text", "options"), [(SKIPPED_IN_A_TEST, []), (XFAIL, ["--only-listed-skips"])])
def test_other_runs_do_not_fail(tmp_path: Path, text: str, options: list[str]) -> None:
    done = run(tmp_path, text, *options)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("accepted", ACCEPTED, ids=lambda each: each.path)
def test_what_is_listed_is_there(accepted: tuple[str, str, str]) -> None:
    path, reason, _ = accepted
    assert reason in (ROOT / path).read_text()
    assert Skip(f"{path}::test_x[1]", f"{reason}: so").is_accepted()
    assert not Skip(f"{path}::test_x[1]", "because").is_accepted()
    assert not Skip("tests/test_other.py::test_x", reason).is_accepted()
