"""The shape of a C file: how wide its lines are, how it begins, and whose prefix its statics carry."""

import re
from pathlib import Path

from tests.codecheck.c_functions import blanked

COLUMNS = 110

SUBJECTS = {
    "changes": ["change"],
    "objects": ["object"],
    "paths": ["path"],
    "policies": ["policy"],
    "floods": ["flood"],
    "records": ["record"],
}
"""Files named after many of what each of their functions is about."""
HEADERS = {
    "base/addr.h": ["is", "mac", "prefix", "router"],
    "base/wire.h": ["get16", "get32", "put16", "put32", "load16", "load32", "load64"],
    "pkt/pool.h": ["arena"],
    "port/io.h": ["port"],
    "run/engine.h": ["dp"],
    "step/source.h": ["policy"],
    "table/tables.h": ["act", "key", "next_hop", "records_of", "pas_of", "routes_of"],
}
"""What else a header's inline functions are about than the file's name says."""

_ATTRIBUTE = re.compile(r"__attribute__\s*\(\(.*?\)\)|_Alignas\([^)]*\)|_Static_assert\s*\([^;]*;", re.DOTALL)
_CALLER = re.compile(
    r"\b(?:called (?:by|through)|calls? (?:it|them)|used by|read by|seen by|passed|private to)\b",
    re.IGNORECASE,
)


def wide_lines(source: str) -> list[int]:
    """Numbers of the lines beyond COLUMNS."""
    return [at for at, line in enumerate(source.splitlines(), 1) if len(line) > COLUMNS]


def opening(source: str) -> str:
    """The comment that a file begins with, without its marks; "" if there is none."""
    match = re.match(r"/\*(.*?)\*/", source, re.DOTALL)
    return re.sub(r"^[ \t]*\*[ \t]?", "", match[1], flags=re.MULTILINE).strip() if match else ""


def faults_of_opening(path: Path, source: str) -> list[str]:
    """Why a file's opening comment is none: NAME: a sentence on what it does, and who calls it.

    A .c file with a header of its own leaves the latter to that.
    """
    name = path.name
    text = opening(source)
    if not text.startswith(f"{name}: "):
        return [f"begins without '{name}: '"]
    first = re.split(r"\n\s*\n", text)[0].removeprefix(f"{name}: ")
    faults = []
    if len(first.split()) < 5 or not first.rstrip().endswith((".", ":", ".)")):
        faults.append("begins without a sentence")
    has_header = path.suffix == ".c" and path.with_suffix(".h").exists()
    if path.suffix != ".def" and not has_header and not _CALLER.search(" ".join(text.split())):
        faults.append("does not say who calls it")
    return faults


def prefixes(path: Path) -> list[str]:
    """What the statics of FLOOR/FILE may begin with."""
    stem = path.stem
    short = re.sub(r"^(?:port|from)_|_(?:rest|table|inline|image|batch)$", "", stem)
    wholly = re.sub(r"^(?:port|from)_", "", re.sub(r"_(?:rest|table|inline|image|batch)$", "", stem))
    return [stem, short, wholly, *SUBJECTS.get(stem, []), *HEADERS.get("/".join(path.parts[-2:]), [])]


def statics(source: str) -> list[str]:
    """The names of static functions and static variables at file level, in their order."""
    code = re.sub(r"\bstatic\s+inline\b", "static", _ATTRIBUTE.sub(" ", _file_level(blanked(source))))
    found = []
    for text in re.findall(r"\bstatic\b([^;\0]*)", code):
        head = re.split(r"=", text)[0]
        pointer = re.match(r"[^(]*\(\s*\*\s*(?:const\s+)?(\w+)", head)
        function = re.search(r"(\w+)\s*\(", head)
        variables = re.findall(r"(\w+)\s*(?:\[[^\]]*\]\s*)*(?:=|,|$)", _without_values(text).strip())
        found += [pointer[1]] if pointer else [function[1]] if function else variables
    return found


def without_prefix(path: Path, source: str) -> list[str]:
    """Statics that do not carry the file's prefix."""
    allowed = prefixes(path)
    return [n for n in statics(source) if not any(n == p or n.startswith(f"{p}_") for p in allowed)]


def _file_level(code: str) -> str:
    """What stands outside of braces; \\0 where a function's body was."""
    out = []
    depth = 0
    body = False
    for char in code:
        if char == "{":
            body = body if depth else "".join(out).rstrip().endswith(")")
            depth += 1
        elif char == "}":
            depth -= 1
            out.append("\0" if depth == 0 and body else "")
        elif depth == 0:
            out.append(char)
    return "".join(out)


def _without_values(text: str) -> str:
    """A declaration's declarators alone: what stands behind a '=' is left out up to the next comma."""
    return re.sub(r"=[^,]*", "", text)
