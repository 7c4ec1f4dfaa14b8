"""Development tool: compiles the .bpf.c files with clang-14 and writes bpf_programs.py: run time needs no
compiler.

    python -m dataplane.host.bpf_compile
"""

import base64
import struct
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SOURCES = (HERE / "pa_filter.bpf.c", HERE / "xdp.bpf.c")
OUTPUT = HERE / "bpf_programs.py"
CLANG = "clang-14"
FLAGS = ["-O2", "-target", "bpf", "-mcpu=v2", "-std=c11", "-Wall", "-Wextra", "-Werror"]
INCLUDES = ["-I/usr/include/x86_64-linux-gnu"]

_SHT_SYMTAB, _SHT_REL = 2, 9
_R_BPF_64_64 = 1
_PREFIXES = {"socket/": "SOCKET_FILTER", "tc/": "SCHED_CLS", "xdp/": "XDP"}
_MAPS = ("pas", "xsks")

_HEADER = '''"""Generated from the .bpf.c files by `python -m dataplane.host.bpf_compile`; do not edit."""

from base64 import b64decode

from dataplane.host.bpf import Program, ProgramType
'''


class Section(NamedTuple):
    name: str
    kind: int
    link: int
    info: int
    data: bytes


def compile_object(source: Path) -> bytes:
    """The ELF object of a source. Raises CalledProcessError with clang's words in stderr."""
    command = [CLANG, *FLAGS, *INCLUDES, "-c", source.name, "-o", "-"]
    return subprocess.run(command, cwd=HERE, check=True, capture_output=True).stdout


def sections(elf: bytes) -> list[Section]:
    """The sections of a little-endian ELF64 object, in order (ELF-64 object file format, chapter 3)."""
    (offset,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + index * size) for index in range(count)]
    strings = headers[names][4]

    def name(at: int) -> str:
        return elf[strings + at : elf.index(b"\0", strings + at)].decode()

    return [Section(name(h[0]), h[1], h[6], h[7], elf[h[4] : h[4] + h[5]]) for h in headers]


def symbol_name(table: list[Section], symtab: Section, index: int) -> str:
    (at,) = struct.unpack_from("<I", symtab.data, index * 24)
    strings = table[symtab.link].data
    return strings[at : strings.index(b"\0", at)].decode()


def map_loads(table: list[Section], target: int) -> tuple[tuple[int, str], ...]:
    """Instructions of section `target` that load the address of a map: their numbers, and which."""
    found = []
    for section in table:
        if section.kind != _SHT_REL or section.info != target:
            continue
        for offset, info in struct.iter_unpack("<QQ", section.data):
            symbol = symbol_name(table, table[section.link], info >> 32)
            if info & 0xFFFFFFFF != _R_BPF_64_64 or symbol not in _MAPS:
                raise ValueError(f"can't relocate {symbol!r}: only maps may be referred to")
            found.append((offset // 8, symbol))
    return tuple(sorted(found))


def generate(objects: Iterable[bytes]) -> str:
    """The text of bpf_programs.py."""
    return "".join([_HEADER, *(text for elf in objects for text in _programs(sections(elf)))])


def _programs(table: list[Section]) -> Iterator[str]:
    for index, section in enumerate(table):
        prefix = next((p for p in _PREFIXES if section.name.startswith(p)), None)
        if prefix is None:
            continue
        name = section.name.removeprefix(prefix)
        lines = textwrap.wrap(base64.b64encode(section.data).decode(), 100)
        code = "\n".join(f'        "{line}"' for line in lines)
        yield (
            f"\n{name.upper()} = Program(\n"
            f'    name="isolane_{name}",\n'
            f"    type=ProgramType.{_PREFIXES[prefix]},\n"
            f"    code=b64decode(\n{code}\n    ),\n"
            f"    map_loads={map_loads(table, index)!r},\n)\n"
        )


def main() -> None:
    OUTPUT.write_text(generate(map(compile_object, SOURCES)))


if __name__ == "__main__":
    main()
