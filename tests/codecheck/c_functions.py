"""Finds the functions of a C file, without compiling it."""

import re
from typing import NamedTuple

_SKIP = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*', re.DOTALL | re.M
)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


class Function(NamedTuple):
    name: str
    line: int
    lines: int
    """From the first line of its head to its closing brace."""


def functions(source: str) -> list[Function]:
    """A function body is a brace at file level that follows a closing parenthesis."""
    code = blanked(source)
    found = []
    depth, head, start = 0, 0, None
    for at, char in enumerate(code):
        if char == "{":
            if depth == 0 and code[head:at].rstrip().endswith(")"):
                start = head + len(code[head:at]) - len(code[head:at].lstrip())
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0 and start is not None:
                line = code.count("\n", 0, start) + 1
                found.append(Function(_name(code[start:at]), line, code.count("\n", start, at) + 1))
                start = None
        if depth == 0 and char in ";}":
            head = at + 1
    return found


def blanked(source: str) -> str:
    """The source with comments, literals and directives turned into blanks."""
    return _SKIP.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), source)


def code_lines(source: str) -> int:
    """Lines that hold more than blanks and comments."""
    code = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), source)
    return sum(bool(line.strip()) for line in code.splitlines())


def _name(text: str) -> str:
    """The identifier before the first parenthesis that is not an attribute's."""
    head = re.sub(
        r"__attribute__\s*\(\(.*?\)\)|_Alignas\([^)]*\)", " ", text.split("{", 1)[0], flags=re.DOTALL
    )
    match = re.search(r"(\w+)\s*\(", head)
    return match[1] if match else "?"
