"""The C tests of tests/c/meson.build: all under ASan and UBSan, the suite `stress` under TSan too."""

import pytest

from tests.native import build, names_in, run_sanitized

UNIT = names_in("tests/c/meson.build", r"^  '(\w+)': '\w+',$")
STRESS = names_in("tests/c/meson.build", r"^  '(\w+)': 'stress',$")


@pytest.mark.parametrize("name", UNIT)
def test_address_and_undefined_behaviour(name: str) -> None:
    run_sanitized([build("asan") / "tests" / "c" / name], timeout=300)


@pytest.mark.parametrize("name", STRESS)
def test_threads(name: str) -> None:
    run_sanitized([build("tsan") / "tests" / "c" / name], timeout=300)
