"""What is written reads back as the same strings, by the rules of every YAML reader."""

import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from policy.kinds import yaml_writer

NO_STRING = [
    re.compile(each)
    for each in (
        r"(?i)y|n|yes|no|on|off|true|false|null|~|",  # YAML 1.1 types, and 1.2
        r"[-+]?0b[01_]+",
        r"[-+]?0o?[0-7_]+",
        r"[-+]?0x[0-9a-fA-F_]+",
        r"[-+]?[0-9][0-9_,]*",
        r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?",  # base 60, in Ruby with a 0 in front
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?",  # in Go and YAML 1.2 without a dot
        r"(?i)[-+]?\.inf|\.nan",
        r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?",
        r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}",  # MACs are quoted whatever they look like
    )
]

special = st.sampled_from(
    [
        *("02:15:00:20:30:40", "10:20:30:40:50:60", "1e3", "1E-3", "12e03", "0777", "0o17", "0x1F", "0b1"),
        *("1_000", "2001-12-14", "2001-12-14T21:59:43Z", "y", "N", "Yes", "off", "~", "null", "Null", ""),
        *(".5", "-.inf", ".NaN", "190:20:30", "=", "<<", "- a", "a: b", "#a", "a #b", " a", "a ", "!x", "&a"),
        *("10.1.1.10", "10.1.1.0/24", "fd00::1", "10.1.1.1-10.1.1.9", "é", "\u2028", "a\nb", "\x07", "*a"),
    ]
)
texts = special | st.text(max_size=12) | st.text("0123456789.:eE_-+xob", max_size=9)


@given(st.lists(st.dictionaries(texts, texts, max_size=3), max_size=4))
@example([{"mac": "02:15:00:20:30:40", "on": "yes"}])
def test_strings_stay_strings(documents: list[dict[str, str]]) -> None:
    written = yaml_writer.dump(documents)
    assert list(yaml.safe_load_all(written)) == documents
    for event in yaml.parse(written):
        if isinstance(event, yaml.ScalarEvent) and not event.style:
            assert not any(each.fullmatch(event.value) for each in NO_STRING), event.value


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("02:15:00:20:30:40", 'a: "02:15:00:20:30:40"'),
        ("1e3", 'a: "1e3"'),
        ("2001-12-14", 'a: "2001-12-14"'),
        ("010001", 'a: "010001"'),
        ("on", 'a: "on"'),
        ("10.1.1.10", "a: 10.1.1.10"),
        ("Blue_VMSubnet1", "a: Blue_VMSubnet1"),
        (5001, "a: 5001"),
        (True, "a: true"),
    ],
)
def test_only_what_must_be_is_quoted(value: object, line: str) -> None:
    assert yaml_writer.dump([{"a": value}]) == f"---\n{line}\n"
