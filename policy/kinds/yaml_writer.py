"""Documents as YAML that every reader takes for the same: what YAML 1.1 could take for a number, a boolean or
a date is quoted, whoever reads it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./(),;-]+)*")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:/[0-9]{1,2}|-(?:[0-9]{1,3}\.){3}[0-9]{1,3})?")
_NO_STRINGS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    plain = (_PLAIN.fullmatch(text) and text.lower() not in _NO_STRINGS) or _IPV4.fullmatch(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if plain else '"')


_Dumper.add_representer(str, _represent)


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """Each document behind a line of ---, its fields in their order."""
    options: Any = {"sort_keys": False, "explicit_start": True, "allow_unicode": True}
    text: str = yaml.dump_all(documents, Dumper=_Dumper, **options)
    return text
