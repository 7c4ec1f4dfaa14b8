"""What the documents show."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.native import BIN, ROOT
from tests.unit.tools.shell import Shell
from tools.cli import COMMANDS, main


def test_operations(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of its console blocks, in order, and what it says that they print."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "operations.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        for step in re.split(r"^# ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            assert command.startswith("isolane ")
            result = CliRunner().invoke(main, shlex.split(command)[1:], env={"ISOLANE_STORE": shell.location})
            parts = (r"\s+".join(map(re.escape, part.split())) for part in printed.split("…"))
            expected = ".*".join(parts)
            assert re.fullmatch(expected, result.output.strip(), re.DOTALL), (command, result.output)


def test_the_walk(tmp_path: Path) -> None:
    """docs/commands.md: every command, by a shell, in order, and what it prints."""
    text = (ROOT / "docs" / "commands.md").read_text()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = 0
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in re.split(r"^# ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                environment[name] = value.replace("$TMPDIR", str(tmp_path))
                continue
            result = subprocess.run(
                command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
            )
            output = (result.stdout + result.stderr).strip()
            parts = (r"\s+".join(map(re.escape, part.split())) for part in printed.split("…"))
            assert re.fullmatch(r"\s*.*\s*".join(parts), output, re.DOTALL), (command, output)
            done += 1
    assert done > 18


def test_documents_speak_of_what_there_is() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    reasons = set(
        re.findall(r'^DROP\(\w+, "([^"]+)"', (ROOT / "csrc" / "base" / "drop.def").read_text(), re.MULTILINE)
    )
    table = text.partition("| drop | means")[2].partition("\n\n")[0]
    named = {
        reason
        for row in table.splitlines()
        for reason in re.findall(r"`([^`]+)`", row.split("|")[1:2][0] if row else "")
    }
    assert len(named) > 20 and named <= reasons
    said = "".join(source.read_text() for source in (ROOT / "policy").rglob("*.py"))
    logged = set(re.findall(r'log\.\w+\(\s*"([^"]+)"', said))
    table = text.partition("| event | further")[2].partition("\n\n")[0]
    assert logged == set(
        re.findall(r"`([^`]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    )
    shown = "".join(re.findall(r"```\w+\n(.*?)```", text, re.DOTALL))
    commands = set(re.findall(r"^(?:# )?isolane (\w+)(?: ([a-z-]+))?", shown, re.MULTILINE))
    assert {verb for verb, _ in commands} <= COMMANDS.keys()
    node = main.get_command(None, "node")  # type: ignore[arg-type]
    assert {query for verb, query in commands if verb == "node"} <= node.commands.keys()  # type: ignore[union-attr]
    for document in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").iterdir())):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
            assert (ROOT / document).parent.joinpath(link).exists(), (document, link)
