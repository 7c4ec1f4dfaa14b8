"""Tests marked `alone` run while no other worker runs any; all others run side by side."""

import os
import subprocess
import sys
from pathlib import Path

from tests.native import ROOT

SAYS = """
import select
from pathlib import Path

import pytest

WORDS = Path(__file__).with_name("words")


def say(text):
    with WORDS.open("a") as words:
        words.write(text + "\\n")


def told(text, seconds, before=""):
    for _ in range(int(seconds * 100)):
        if text in WORDS.read_text().removeprefix(before):
            return True
        select.select([], [], [], 0.01)
    return False
"""
ALONE = """
from says import *

@pytest.mark.alone
@pytest.mark.parametrize("number", [1, 2])
def test_alone(number):
    before = WORDS.read_text() if WORDS.exists() else ""
    say("alone")
    assert not told("other", 0.5, before)

def test_beside():
    before = WORDS.read_text()
    say("beside")
    assert told("other", 60, before)
"""
OTHER = """
from says import *

@pytest.mark.parametrize("number", range(600))
def test_other(number):
    say("other")
    told("beside", 0.1)
"""


def test_one_is_alone_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --strict-markers\n")
    for name, text in {"says": SAYS, "test_1": OTHER, "test_2": ALONE}.items():
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-n2", "-p", "tests.workers", "-p", "no:cacheprovider"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "603 passed" in done.stdout.splitlines()[-1]
