"""The only import of the extension module; everything else takes `ffi` and `lib` from here."""

from dataplane.binding._core import ffi, lib

__all__ = ["ffi", "lib"]
