SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

MODULES  := proto pkg services
PEER     := scripts/river
GROWTH   := 1000,10000
TOOLS    := bin/tools
BINARIES := tenure hr-ingest policy connector-worker audit-sink console

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## all processes, into ./bin
	@mkdir -p bin
	go build -trimpath -o bin/ $(addprefix ./services/cmd/,$(BINARIES))

run: build ## Tenure on this machine, with a demo company: needs Go, nothing else
	./bin/tenure dev

cluster: ## two of every service over PostgreSQL and three NATS nodes, on this machine (scripts/cluster.sh tells more)
	@scripts/servers.sh
	scripts/cluster.sh up

test: ## every test, against the real servers it talks to (installs what is missing, where it may)
	@scripts/servers.sh
	go test -timeout 9m work
	@scripts/servers.sh --missing

race: ## every test under the race detector
	@scripts/servers.sh
	go test -race -timeout 30m work

promises: ## what Tenure promises, tried, beside the bugs that must be found; also as out/promises.json (PROMISES=long: ten times as much)
	@scripts/servers.sh
	@mkdir -p out
	go run -trimpath ./services/promises -out out/promises.json

storms: ## the longest tests: a whole company, a rolling restart, deaths at every point
	@scripts/servers.sh
	cd services && TENURE_TEST_WHOLE=1 go test -v -timeout 60m -parallel 3 ./e2e -run 'TestTheEndIsTheSame|TestHistory|TestARollingRestart'
	cd services && TENURE_TEST_WHOLE=1 go test -v -timeout 60m -parallel 16 -tags crashpoints ./e2e -run TestWherever

check: lint modules generated ## generated code, format, lint, and each module by itself

lint: $(TOOLS)/golangci-lint $(TOOLS)/buf
	cd proto && ../$(TOOLS)/buf lint
	cd proto && if [ -e released.binpb ]; then ../$(TOOLS)/buf breaking --against released.binpb; fi
	$(TOOLS)/golangci-lint fmt --diff ./pkg/... ./services/...
	$(TOOLS)/golangci-lint run $(addsuffix /...,$(addprefix ./,$(MODULES)))
	cd $(PEER) && GOWORK=off $(CURDIR)/$(TOOLS)/golangci-lint run

modules:
	scripts/modules.sh $(MODULES) $(PEER)

generated: $(TOOLS)/buf
	scripts/generated.sh

generate: $(TOOLS)/buf ## Go from the protos
	cd proto && PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate

bench: ## rates, latencies and growth beside their floors, also as out/bench.json (PEERS=river: beside River, too)
	@scripts/servers.sh
	@mkdir -p out
	go run ./services/e2e/bench -out out/bench.json -growth $(GROWTH) -peers "$(PEERS)"

vuln: $(TOOLS)/govulncheck ## known vulnerabilities (needs the Go vulnerability database)
	for m in $(MODULES); do (cd $$m && ../$(TOOLS)/govulncheck ./...); done

# All tools are pinned in scripts/tools/go.mod and built together.
$(TOOLS)/%: scripts/tools/go.mod scripts/tools/go.sum
	@mkdir -p $(TOOLS)
	cd scripts/tools && GOWORK=off GOBIN="$(CURDIR)/$(TOOLS)" go install tool
	@touch $(TOOLS)/*

.PHONY: help build run cluster storms test race check lint modules generated generate bench vuln
