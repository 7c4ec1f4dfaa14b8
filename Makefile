# Two commands: `make demo` and `make test`. Both set up what they need first (tools/setup.sh) and can be run again.
# ISOLANE_NO_APT=1 keeps them from installing Debian packages.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PYTEST_ARGS ?=
# So many tests run at a time (tests/workers.py); 1: one after another, in one process.
WORKERS ?= 2
STAGED = $(addprefix debian/,isolane .debhelper files debhelper-build-stamp *.substvars *.debhelper isolane.sysusers)
# Of hypothesis' random examples; printed, and kept in build/hypothesis-seeds. `make test SEED=N` has the same again.
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test setup build lint fuzz man deb clean

demo:
	@tools/setup.sh run
	$(SUDO) .venv/bin/isolane demo

test:
	@tools/setup.sh test
	$(SUDO) .venv/bin/python -m pytest $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS)) --durations=25 --hypothesis-seed=$(SEED) $(PYTEST_ARGS)

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

# Man pages in build/man, completion for bash, zsh and fish in build/completion.
man:
	@tools/setup.sh run
	.venv/bin/python -m tools.manual build/man
	@mkdir -p build/completion
	for shell in bash zsh fish; do .venv/bin/isolane completion $$shell > build/completion/isolane.$$shell || exit 1; done

# build/deb/isolane_VERSION_amd64.deb
deb:
	@tools/setup.sh package
	RESULT=build/deb DEB_RULES_REQUIRES_ROOT=no debian/rules binary
	rm -rf $(STAGED)

clean:
	rm -rf $(STAGED)
	$(SUDO) rm -rf build .venv dataplane/binding/_core.abi3.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	$(SUDO) find . -name __pycache__ -type d -prune -exec rm -rf {} +
