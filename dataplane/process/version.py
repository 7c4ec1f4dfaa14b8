"""Which isolane this is. Read while files may be opened: seccomp.restrict() ends that."""

from importlib.metadata import PackageNotFoundError, version


def _version() -> str:
    try:
        return version("isolane")
    except PackageNotFoundError:  # run from a source tree
        return "uninstalled"


VERSION = _version()
