import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "golden: write every case anew, from its row and what the core does"
    parser.addoption("--regen", action="store_true", help=text)
