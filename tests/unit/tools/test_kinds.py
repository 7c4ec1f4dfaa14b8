"""What kinds are called on a command line."""

import json

from policy.kinds.model import KINDS
from tests.unit.tools.shell import Shell
from tools import kinds, listing


def test_every_kind_has_names_of_its_own() -> None:
    assert kinds.SHORT_NAMES.keys() == KINDS.keys()
    names = [name for kind in KINDS for name in kinds.words_for(kind)]
    assert len(set(names)) == len(names) and kinds.ALL not in names
    for kind in KINDS:
        assert {kinds.find(name.upper()) for name in kinds.words_for(kind)} == {kind}


def test_api_resources(shell: Shell) -> None:
    lines = shell("api-resources").stdout.splitlines()
    assert lines[0].split() == ["NAME", "SHORT", "NAMES", "OF", "TENANT", "KIND"]
    assert "ports              po           yes        Port" in lines
    assert len(lines) == len(KINDS) + 1 and max(map(len, lines)) <= 80
    assert "VM's network interface" in shell("api-resources", "-o", "wide").stdout
    assert {row["kind"] for row in json.loads(shell("api-resources", "-o", "json").stdout)} == set(KINDS)


def test_every_kind_has_columns_that_it_has_fields_for() -> None:
    assert listing.NARROW.keys() == KINDS.keys()
    for kind, columns in listing.NARROW.items():
        assert set(columns) <= {field.name for field in KINDS[kind].fields}
