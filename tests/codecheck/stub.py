"""The type stub dataplane/binding/_ffi.pyi, made from the compiled extension.

After a change of dp_api.h: .venv/bin/python -m tests.codecheck.stub > dataplane/binding/_ffi.pyi
"""

from typing import Any

from dataplane.binding._ffi import ffi, lib

HEAD = '''\
"""Made from dp_api.h by tests/codecheck/stub.py; a test keeps the two in step."""

from collections.abc import Iterator, Sequence
from typing import Final, Generic, Literal, TypeVar, overload

_T = TypeVar("_T")

class Handle:
    """struct dp * or struct dp_roof *"""

class CString:
    """const char *, for ffi.string()"""

class Array(Generic[_T]):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Array[_T]: ...
    def __setitem__(self, index: int, value: _T) -> None: ...

class _ArrayField:
    def __get__(self, instance: object, owner: object = None) -> Array[int]: ...
    def __set__(self, instance: object, value: bytes | Sequence[int]) -> None: ...
'''

FFI_HEAD = """
class _FFI:
    NULL: Handle
    @overload
    def new(self, cdecl: Literal["struct dp **", "struct dp_roof **"]) -> Array[Handle]: ...
    @overload
    def new(
        self,
        cdecl: Literal["uint8_t[]", "uint32_t[]", "uint64_t[]", "uint64_t *"],
        init: int | Sequence[int] | None = None,
    ) -> Array[int]: ...
"""

FFI_TAIL = """\
    def string(self, cdata: CString | Array[int]) -> bytes: ...
    def buffer(self, cdata: object, size: int = -1) -> bytes: ...
    @overload
    def from_buffer(self, cdecl: Literal["uint8_t[]"], data: bytes) -> Array[int]: ...
    @overload
    def from_buffer(self, cdecl: Literal["struct dp_frame[]"], data: bytes) -> Array[dp_frame]: ...
    def sizeof(self, cdecl: str) -> int: ...
    def offsetof(self, cdecl: str, field: str) -> int: ...
"""


OPAQUE = {"dp", "dp_roof"}


def _structs() -> list[str]:
    _, structs, _ = ffi.list_types()
    return sorted(set(structs) - OPAQUE)


def _field(ctype: Any) -> str:
    return "_ArrayField" if ctype.kind == "array" else "int"


def _parameter(ctype: Any) -> str:
    if ctype.kind != "pointer":
        return "int"
    target = ctype.item
    if target.kind == "struct":
        name = target.cname.removeprefix("struct ")
        if name in OPAQUE:
            return "Handle"
        return f"{name} | Array[{name}]"
    if target.cname == "uint8_t":
        return "bytes | Array[int]"
    return "Array[Handle]" if target.kind == "pointer" else "Array[int]"


def _result(ctype: Any) -> str:
    if ctype.kind == "void":
        return "None"
    return "CString" if ctype.kind == "pointer" else "int"


def _struct_class(name: str) -> list[str]:
    fields = ffi.typeof(f"struct {name}").fields
    return ["", f"class {name}:"] + [f"    {field}: {_field(spec.type)}" for field, spec in fields]


def _overloads(name: str) -> list[str]:
    return [
        "    @overload",
        f'    def new(self, cdecl: Literal["struct {name} *"]) -> {name}: ...',
        "    @overload",
        f'    def new(self, cdecl: Literal["struct {name}[]"], init: int) -> Array[{name}]: ...',
    ]


def _lib_class() -> list[str]:
    lines = ["", "class _Lib:"]
    functions = []
    for name in sorted(dir(lib)):
        member = getattr(lib, name)
        if isinstance(member, int):
            lines.append(f"    {name}: Final = {member}")
        else:
            functions.append(_function(name, ffi.typeof(member)))
    return lines + functions


def _function(name: str, ctype: Any) -> str:
    parameters = "".join(f", a{i}: {_parameter(arg)}" for i, arg in enumerate(ctype.args))
    return f"    def {name}(self{parameters}, /) -> {_result(ctype.result)}: ..."


def stub() -> str:
    lines = [HEAD.rstrip("\n")]
    for name in _structs():
        lines += _struct_class(name)
    lines.append(FFI_HEAD.rstrip("\n"))
    for name in _structs():
        lines += _overloads(name)
    lines.append(FFI_TAIL.rstrip("\n"))
    lines += _lib_class()
    lines += ["", "ffi: Final[_FFI]", "lib: Final[_Lib]", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(stub(), end="")
