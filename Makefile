# Everything that a person or CI runs. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A user's PATH on Debian is without these, where nft, sysctl and bridge are.
export PATH := $(PATH):/usr/sbin:/sbin

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Programs that are run as real processes (members, simulator, bare server) are built once, in the profile `fast`;
# tests beside the code run in the debug profile. Nothing is built in both, but for what both are made of.
# The sidecar is built as its image has it, static: naming the machine's own triple keeps the flag from what runs in the
# build itself.
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
SIDEGRID_BIN := $(TARGET_DIR)/$(TRIPLE)/fast/sidegrid
export SIDEGRID_BIN
CACHE := $(or $(SIDEGRID_CACHE),$(if $(HOME),$(HOME)/.cache/sidegrid,$(TARGET_DIR)/cache))
# What brings a Kubernetes up runs as root; it is built before, by whoever runs make.
# Root's caches are its own, or whoever runs make could not write theirs any more.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env env "PATH=$$PATH" "HOME=$$HOME" \
  "GOCACHE=$(TARGET_DIR)/root/go" "KUBECACHEDIR=$(TARGET_DIR)/root/kube")
LOCKED := $(if $(CI),--locked)
CARGO_DENY_VERSION := 0.20.2
GO_MODULES = $(dir $(shell git ls-files '*go.mod'))

# The order is from cheap to dear, so that a slip shows early.
TIERS := lint house unit conformance deny sim demo manifests cluster e2e faults
SEEDS ?= 50000
JOBS ?= 2

.PHONY: help install install-tests demo demo-down demo-local test $(TIERS:%=test-%) bench sim-long bugs-long faults-long deny deny-advisories \
  generate sidecar images e2e-long clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## Install the Debian packages that the rest needs; at once when they are there
	@.ci/install-packages

install-tests: ## Install what the tests need besides
	@.ci/install-packages tests

demo: install ## See it work in a small real Kubernetes (CLUSTER=current: in the one that kubectl points at)
	@deploy/demo/demo.sh

demo-down: ## End the Kubernetes that `make demo` brought up, and leave nothing
	@cd tests/cluster && go build -o "$(TARGET_DIR)/demo/cluster" . && \
	  $(ROOT) "$(TARGET_DIR)/demo/cluster" --instance "$${DEMO_INSTANCE:-0}" down

demo-local: install sidecar ## See it work without Kubernetes: three members, three web services, one member killed
	@deploy/demo-local/demo.sh

sidecar: ## Build the sidecar as the demo, the fault tests and the benchmarks run it
	@[ -x "$(SIDEGRID_BIN)" ] || echo "Building the sidecar (some minutes the first time) ..."
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile fast $(LOCKED) --target $(TRIPLE) --package sidegrid

images: ## Pack the images of sidecar, operator and example app into target/images
	@deploy/images/build.sh

test: install-tests ## Run every tier, each with its time
	@tests/tiers.sh $(TIERS)

test-lint: ## Tier: format, lints and documentation, Rust and Go
	cargo fmt --all --check
	@# Apart, since the simulator's feature `planted-bugs` would else be on everywhere.
	cargo clippy --quiet $(LOCKED) --workspace --exclude sidegrid-sim --all-targets -- --deny warnings
	cargo clippy --quiet $(LOCKED) --package sidegrid-sim --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --quiet $(LOCKED) --workspace --no-deps --document-private-items
	@[ -n "$(GO_MODULES)" ] || { echo "git ls-files names no Go module: nothing would be checked" >&2; exit 1; }
	for script in $$(git ls-files '*.sh' .ci); do bash -n "$$script"; done
	for module in $(GO_MODULES); do (cd "$$module"; unformatted=$$(gofmt -l .); \
	  [ -z "$$unformatted" ] || { echo "gofmt: $$module: $$unformatted"; exit 1; }; go vet ./...); done

test-house: ## Tier: the code's own habits (layers, sizes, cited rules, texts)
	cargo test --quiet $(LOCKED) --no-fail-fast --package sidegrid-house

test-unit: ## Tier: unit, property and process tests beside the code
	cargo test --quiet $(LOCKED) --no-fail-fast --workspace \
	  --exclude sidegrid-sim --exclude sidegrid-house --exclude sidegrid-conformance
	cd deploy/examples/sessions && go test -count=1 -v ./...

test-conformance: ## Tier: every registry kind against the one suite
	cargo test --quiet $(LOCKED) --no-fail-fast --package sidegrid-conformance

test-deny: ## Tier: licences, banned crates and sources of what comes in from outside
	@$(MAKE) deny

test-sim: ## Tier: the simulator's short form (some hundred seeds, planted bugs)
	cargo test --quiet $(LOCKED) --no-fail-fast --profile fast --package sidegrid-sim

test-demo: sidecar ## Tier: the demo, the example clients and the printed commands do what they say
	DEMO_EXIT=1 $(MAKE) demo-local
	cd tests/apps && go test -count=1 -v -timeout 15m ./...

test-faults: sidecar ## Tier: real processes in network namespaces, short form (root, or user namespaces)
	cd tests/faults && go test -count=1 -v -timeout 25m ./...

test-manifests: ## Tier: chart and kustomization make the same objects, and the chart takes no unknown value
	cd tests/e2e && go test -count=1 -v -timeout 30m ./manifests ./kube ./app ./processes

test-cluster: ## Tier: the Kubernetes that tests and demo bring up comes and goes without a trace (root or sudo)
	cd tests/cluster && go run . build >/dev/null && go test -c -o "$(TARGET_DIR)/tests/cluster.test" ./cluster
	cd tests/cluster/cluster && $(ROOT) "$(TARGET_DIR)/tests/cluster.test" -test.v -test.timeout 20m

test-e2e: images ## Tier: operator and example app in a real Kubernetes on this machine, short form (root or sudo)
	cd tests/e2e && go test -c -o "$(TARGET_DIR)/tests/e2e.test" .
	cd tests/e2e && $(ROOT) "$(TARGET_DIR)/tests/e2e.test" -test.v -test.timeout 35m
	DEMO_EXIT=1 DEMO_INSTANCE=8 $(MAKE) demo

e2e-long: images ## The tests on a real Kubernetes in their long form
	cd tests/e2e && go test -c -o "$(TARGET_DIR)/tests/e2e.test" .
	cd tests/e2e && SIDEGRID_LONG=1 $(ROOT) "$(TARGET_DIR)/tests/e2e.test" -test.v -test.timeout 3h

sim-long: ## Simulate SEEDS=50000 runs on JOBS=2 cores; prints seeds a minute and the coverage of each rule
	cargo run --quiet --profile fast --package sidegrid-sim -- run --seeds $(SEEDS) --jobs $(JOBS)

bugs-long: ## Plant each known bug and show how many seeds it takes the simulator to see it
	cargo run --quiet --profile fast --package sidegrid-sim -- bugs

faults-long: sidecar ## The fault tests' long form (an hour or two); prints the figures
	cd tests/faults && SIDEGRID_LONG=1 go test -count=1 -v -timeout 3h ./...

bench: sidecar ## Figures beside a bare server in the same run: throughput as a ratio, memory, start, size
	cd tests/bench && go run .

deny: ## Check what comes in from outside against deny.toml
	@PATH="$(CACHE)/tools/bin:$$PATH"; \
	if ! cargo deny --version >/dev/null 2>&1; then \
	  echo "building cargo-deny $(CARGO_DENY_VERSION) once, into $(CACHE)/tools"; \
	  CARGO_TARGET_DIR="$(CACHE)/tools/build" cargo install --quiet --locked --version $(CARGO_DENY_VERSION) \
	    --root "$(CACHE)/tools" cargo-deny; \
	  rm -rf "$(CACHE)/tools/build"; \
	fi; \
	cargo deny --log-level warn check bans licenses sources

deny-advisories: ## Check for known vulnerabilities (fetches the advisory database)
	@PATH="$(CACHE)/tools/bin:$$PATH"; cargo deny check advisories

generate: ## Write the files that come from the types again (OpenAPI, tables of docs/API.md, names of metrics, the CRD)
	SIDEGRID_GENERATE=1 cargo test --quiet --package sidegrid --bin sidegrid -- documents admin::tests::names
	SIDEGRID_GENERATE=1 cargo test --quiet --package sidegrid-operator --lib -- crd_file

clean: ## Remove what was built
	cargo clean --quiet
