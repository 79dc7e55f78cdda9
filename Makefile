# Two commands do everything: `make demo` holds a conference, `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3  # of make test: most tests wait for processes, not for a core

.PHONY: demo test test-kernel check judges bench proto proto-check clean help
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: .venv/runtime ## hold a conference on this machine, told step by step
	$(BIN)/mcsa demo

test: .venv/dev ## run all tests that this machine can run; names what it skipped
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-kernel: .venv/kernel ## test what needs the kernel's IPsec, in a virtual machine with Debian's kernel
	$(BIN)/python -m tests.kernel.boot

check: .venv/dev proto-check ## ruff, mypy strict, generated code up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

judges: ## install the programs that judge us, from Debian (needs root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  tshark ffmpeg vlc-bin vlc-plugin-base minisapserver pulseaudio nftables iproute2 smcroute iperf strace \
	  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gir1.2-gstreamer-1.0 python3-gi >/dev/null

bench: .venv/dev ## measure what we publish
	$(BIN)/python -m bench all

proto: .venv/dev ## generate mcsa/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --python_out=. --mypy_out=quiet:. proto/mcsa/v1/*.proto

proto-check: .venv/dev ## buf lint, and the committed code is what proto/ generates
	$(BIN)/buf lint proto
	$(BIN)/buf format -d --exit-code proto
	@rm -rf .venv/proto-check && mkdir -p .venv/proto-check
	@$(BIN)/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --python_out=.venv/proto-check --mypy_out=quiet:.venv/proto-check proto/mcsa/v1/*.proto
	@diff -r -x __pycache__ -x __init__.py .venv/proto-check/mcsa/v1 mcsa/v1 \
	  || { echo "mcsa/v1 is not what proto/ generates; run: make proto"; exit 1; }

.venv/runtime: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/runtime

.venv/kernel: .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,kernel]'
	@touch $@

clean: ## remove what make made
	rm -rf .venv build dist
