# whatif: everything a person or a machine does with this repository. `make` lists it.
#
# Needed beforehand: a Rust toolchain (rustup.rs) and, on Debian, nothing else: what is missing is installed by apt,
# with sudo unless you are root. Every target may be repeated; what is done is not done again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/quick/whatif
TOOLS := tests/tools
SERVERS := $(TARGET_DIR)/servers

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: build ## Build and serve: PORT (3000), DATA_DIR (./data) and every other setting from the environment
	@exec $(BIN) serve

.PHONY: run-full
run-full: build ## The same on PostgreSQL, Redis and a DynamoDB-compatible server: REPLICAS (1) behind haproxy, PORT (3000)
	@exec scripts/run-full $(BIN)

.PHONY: play
play: build ## Play a story on the running server: PROMPT="What if …?", WHATIF_SERVER
	@exec $(BIN) play $${PROMPT:+"$$PROMPT"}

.PHONY: build
build: toolchain
	@cargo build --locked --profile quick --bin whatif

.PHONY: check
check: toolchain ## Format and lints; warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: test
test: check test-tools ## Everything that has to be green: lints, tests on real servers, documentation, dependencies
	@scripts/servers with $(SERVERS) $(MAKE) tests

# What `test` runs while the servers run.
.PHONY: tests
tests:
	@if cargo nextest --version >/dev/null 2>&1; then \
		echo "cargo nextest run"; cargo nextest run --locked; \
	else \
		echo "cargo test"; cargo test --locked --lib --bins --tests -- --skip chaos::; \
		cargo test --locked --test it -- chaos:: --test-threads 1; \
	fi
	cargo test --locked --doc --quiet
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	@if [ -f deny.toml ] && cargo deny --version >/dev/null 2>&1; then \
		echo "cargo deny check"; cargo deny check bans licenses sources; \
	fi

.PHONY: chaos
chaos: toolchain test-tools ## Break everything, in orders drawn from SEEDS (20) seeds, or from one: SEED
	@WHATIF_CHAOS_SEEDS=$(or $(SEEDS),20) WHATIF_CHAOS_SEED=$(SEED) scripts/servers with $(SERVERS) \
		cargo test --locked --test it -- chaos:: --test-threads 1 --nocapture

.PHONY: gates
gates: toolchain ## The embedded storyteller over 1,000 seeds of 30 prompts
	cargo test --locked --release --lib -- storyteller::tests::gates --nocapture

.PHONY: bench
bench: toolchain ## Benchmarks
	cargo build --locked --release --bin whatif
	cargo bench --locked --bench hop
	cargo bench --locked --bench storyteller
	cargo bench --locked --bench relay -- paced --streams 200 --rounds 3 --tokens 600
	scripts/servers with $(SERVERS) cargo bench --locked --bench replicas -- delivery

.PHONY: image
image: ## The container image, tagged whatif
	@command -v docker >/dev/null || { echo "make: docker is needed to build the image" >&2; exit 1; }
	docker build --tag whatif .

.PHONY: clean
clean: ## Remove what was built; ./data, the stories, is kept
	cargo clean
	rm -rf $(TOOLS)/node_modules

# Only what the build really needs: the bundled SQLite, the allocator and the cryptography are C, compiled by `cc`.
.PHONY: toolchain
toolchain:
	@scripts/need-rust
	@scripts/need cc gcc libc6-dev

# Tools that the tests drive from outside, if there are any.
.PHONY: test-tools
test-tools: $(if $(wildcard $(TOOLS)/package.json),$(TOOLS)/node_modules/.installed)
	@:

$(TOOLS)/node_modules/.installed: $(wildcard $(TOOLS)/package.json $(TOOLS)/package-lock.json)
	@scripts/need node nodejs
	@scripts/need npm npm
	npm ci --prefix $(TOOLS) --no-audit --no-fund --loglevel=error
	@touch $@
