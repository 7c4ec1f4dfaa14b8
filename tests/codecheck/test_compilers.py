"""All C of the core and its bench compiles without a warning, by gcc and clang, as the real build does."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.native import ROOT

BUILD = ROOT / "build" / "py"


def commands() -> list[dict[str, Any]]:
    database = BUILD / "compile_commands.json"
    if not database.exists():
        return []
    entries = json.loads(database.read_text())
    return [entry for entry in entries if {"csrc", "bench"} & set(Path(entry["file"]).parts)]


def test_commands_are_known() -> None:
    assert commands()


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
@pytest.mark.parametrize("entry", commands(), ids=lambda entry: Path(entry["file"]).name)
def test_no_warning(entry: dict[str, Any], compiler: str, tmp_path: Path) -> None:
    words = shlex.split(entry["command"])
    flags = words[1 : words.index("-MD")]
    command = [compiler, *flags, "-Werror", "-c", "-o", tmp_path / "out.o", entry["file"]]
    done = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
