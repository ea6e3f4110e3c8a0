# `make` prints the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go
FUZZTIME ?= 10s

help: ## print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build bin/pgveil
	$(GO) build -trimpath -o bin/pgveil ./cmd/pgveil

static: ## build bin/pgveil linked statically, for an image FROM scratch
	CGO_ENABLED=1 $(GO) build -trimpath -tags netgo,osusergo -ldflags '-s -w -linkmode external -extldflags "-static"' -o bin/pgveil ./cmd/pgveil

test: ## run the tests; they find or fetch a PostgreSQL themselves
	$(GO) test ./...

race: ## run the tests under the race detector
	$(GO) test -race ./...

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@set -e; for dir in $$(grep -rlE '^func Fuzz' --include=*_test.go . | xargs -n1 dirname | sort -u); do \
	  for name in $$(grep -rhoE '^func Fuzz[A-Za-z0-9]+' $$dir/*_test.go | sed 's/func //'); do \
	    echo "$$dir $$name"; $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$dir; done; done

fuzz-wire: ## relay 50 million messages of random conversations, and meet 5,000 slow clients
	PGVEIL_LONG=1 $(GO) test -count=1 -timeout 120m -v -run 'TestMessageSoak|TestSlowClients' ./pgwire

bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-engine: ## measure the engine in units of AES; PGVEIL_LONG=1 filters ten million lines instead of 200,000
	@script/bench-engine

bench-guard: ## measure what the default guards add to COPY of a million rows
	@script/bench-guard

bench-wire: ## measure the front-end against PgBouncer and no proxy; PGVEIL_LONG=1 takes longer, PGVEIL_BENCH_ONLY=cpu,stream measures parts
	@script/bench-wire

test-long: ## run the long forms of the tests: a million round trips per format, and more
	PGVEIL_LONG=1 $(GO) test -count=1 -timeout 120m ./engine/... ./cmd/pgveil

golden: ## accept what the golden tests print now
	$(GO) test ./sql ./cmd/pgveil -update

vet: ## go vet
	$(GO) vet ./...

lint: vet ## vet, gofmt and the shell scripts' syntax
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi
	@for f in script/* .ci/run drivers/psql/check; do bash -n $$f; done

check: lint ## what CI runs: lint, build and all tests; a skipped test fails
	$(GO) build ./...
	script/check

conformance: build ## run PostgreSQL's own suites directly and through the front-end (15 minutes)
	script/conformance

demo: ## start the demonstration
	$(GO) run ./cmd/pgveil dev

demo-check: build ## start the demonstration, use it as three roles, look for clear values at rest
	script/demo-check

drivers: ## run the driver and ORM matrix, installing what is missing; write docs/drivers.md
	script/drivers

.PHONY: help build static test race fuzz fuzz-wire bench bench-engine bench-guard bench-wire test-long golden vet lint check conformance demo demo-check drivers
