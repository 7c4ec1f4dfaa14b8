"""The documents: links lead somewhere, the README's manifest is right."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.native import ROOT
from tools.cli import main

PAGES = [ROOT / "README.md", ROOT / "csrc" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_rooms_are_all_there() -> None:
    text = (ROOT / "docs" / "developing.md").read_text()
    listed = set(re.findall(r"^\| `((?:dataplane|policy)/[a-z]+)` \|", text, re.M))
    there = {path.parent for room in ("dataplane", "policy") for path in (ROOT / room).glob("*/__init__.py")}
    assert listed == {path.relative_to(ROOT).as_posix() for path in there}


def test_the_manifest_of_two_hosts(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## On real hosts")[2].partition("\n## ")[0]
    shown = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    path = tmp_path / "net.yaml"
    path.write_text("\n".join(line for line in shown if "isolane up" not in line))
    done = CliRunner().invoke(main, ["compile", str(path), "--host", "h2"])
    assert done.exit_code == 0, done.output
    assert "10.1.1.10" in done.output
