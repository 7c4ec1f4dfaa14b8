"""Builder of the extension module `dataplane.binding._core`: dp_api.h itself is the cffi declaration."""

from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).resolve().parents[2] / "csrc" / "dp_api.h"


def declarations(header: str) -> str:
    """The header's text without the preprocessor's lines, which cffi does not read."""
    return "".join(line for line in header.splitlines(keepends=True) if not line.startswith("#"))


ffibuilder = FFI()
ffibuilder.cdef(declarations(HEADER.read_text()))
ffibuilder.set_source("dataplane.binding._core", '#include "dp_api.h"')
