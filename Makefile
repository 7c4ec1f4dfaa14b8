# Two commands: `make demo` and `make test`. Both set up what they need first (tools/setup.sh) and can be run again.
# ISOLANE_NO_APT=1 keeps them from installing Debian packages.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PYTEST_ARGS ?=
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test setup build lint fuzz clean

demo:
	@tools/setup.sh run
	$(SUDO) .venv/bin/isolane demo

test:
	@tools/setup.sh test
	$(SUDO) .venv/bin/python -m pytest $(PYTEST_ARGS)

setup:
	@tools/setup.sh test

build:
	@tools/build.sh

lint:
	@tools/setup.sh test
	.venv/bin/python -m pytest tests/codecheck

fuzz:
	@tools/setup.sh test
	ISOLANE_FUZZ_SECONDS=$(or $(SECONDS),600) .venv/bin/python -m pytest -s tests/fuzz

clean:
	$(SUDO) rm -rf build .venv dataplane/_core.abi3.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	$(SUDO) find . -name __pycache__ -type d -prune -exec rm -rf {} +
