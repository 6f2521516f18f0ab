# Everything here needs Go, make and a C compiler (for -race), nothing else: buf, its plugins and
# golangci-lint are Go tools of modules of their own, so that their dependencies never meet ours.
BUF  := go tool -modfile=deploy/tools/buf/go.mod buf
LINT := go tool -modfile=deploy/tools/lint/go.mod golangci-lint

# The packages that share memory between goroutines: tested once more with the race detector.
RACE := ./raftstore/... ./witnessd/... ./agent/... ./cmd/witnessctl/...

ENGINE   ?= demo
RUNS     ?= 5
AGAINST  ?= .git\#branch=main
SEEDS    ?= 20000
RESULTS  ?= docs/failure-matrix.json
SEED     ?=
FUZZTIME ?= 3s

.DEFAULT_GOAL := help
.PHONY: help generate generate-check breaking lint format test build e2e matrix e2e-fence e2e-gate bench-gate demo model \
	sim mutants fuzz nightly check windows wine

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

generate: ## write proto/gen from the schemas in proto/
	$(BUF) generate

generate-check: ## fail unless proto/gen is what `make generate` writes
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(BUF) generate --output "$$tmp" && \
	diff -r "$$tmp/proto/gen" proto/gen || { echo "proto/gen is stale: run make generate"; exit 1; }

breaking: ## compare the schemas with those of a commit (AGAINST=.git#branch=main)
	$(BUF) breaking --against '$(AGAINST)'

lint: ## gofmt, go vet, golangci-lint, go mod tidy, buf lint and buf format
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "not formatted: run make format"; echo "$$out"; exit 1; }
	go vet ./...
	$(LINT) run ./...
	go mod tidy -diff
	$(BUF) lint
	$(BUF) format --diff --exit-code

format: ## write Go and schema files in their standard form
	gofmt -w .
	$(BUF) format --write

test: ## all tests, then the concurrent packages again with -race
	go test -timeout 10m ./...
	go test -race -timeout 10m $(RACE)

windows: ## build and vet everything for Windows, into bin/windows/
	GOOS=windows GOARCH=amd64 go vet ./agent/... ./cmd/...
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -trimpath -o bin/windows/ ./cmd/witnessd ./cmd/witnessctl ./cmd/witness-agent

wine: ## run the Windows programs under Debian's Wine, as far as it can (deploy/ci/install-wine)
	go run ./test/wine

build: ## the programs, into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

e2e: ## the short failure matrix: real PostgreSQL, hosts as network namespaces (root; about 4 min)
	go run ./test/matrix -short

matrix: ## the whole failure matrix, RUNS=5 times, 100 random faults, a soak of 30 min (root; hours); writes docs/failure-matrix.md
	go run ./test/matrix -runs=$(RUNS) -random 100 -soak 30m -json $(RESULTS) -doc docs/failure-matrix.md

e2e-fence: ## agents killed and frozen, hosts frozen and cut off, in network namespaces (RUNS=5; root; about 5 min a run)
	go run ./test/e2e -set fence -runs=$(RUNS)

e2e-gate: ## the same with clients that come by the gates (RUNS=5; root)
	go run ./test/e2e -set gate -runs=$(RUNS)

bench-gate: ## the gate beside a direct connection and HAProxy: throughput, latency, idle connections
	go run ./test/gatebench

demo: ## three nodes, two pairs, five faults, one after the other (ENGINE=demo|postgres|sqlserver-mirroring|sqlserver-ag)
	go run ./test/demo -engine=$(ENGINE)

model: ## search every way in which a few faults can befall a pair (about 6 min on two cores)
	go run ./test/model

sim: ## random schedules of faults over several pairs (SEEDS=20000), or one of them with its trace (SEED=n); about 2 min
	go run ./test/sim $(if $(SEED),-seed $(SEED),-seeds $(SEEDS))

mutants: ## plant bugs and see which ring of the proof catches each (about 10 min)
	go run ./test/mutants

fuzz: ## every fuzz target, one after the other (FUZZTIME=3s each; about 4 min)
	go run ./test/fuzz -each $(FUZZTIME)

nightly: ## the long forms of all that make test and CI do a share of (hours)
	go run ./test/model -more 1 -states 20000000
	go run ./test/sim -seeds 200000
	go run ./test/mutants -all
	go run ./test/fuzz -each 2m
	go test ./test/whole -hours 6 -pairs 1000 -timeout 1h
	go test ./witnessd -run TestHistories -histories 1000 -timeout 30m
	go test ./test/crash -run TestKills -kills 1000 -live 2 -timeout 3h -v
	go test ./raftstore -run TestDamagedLog -flips 100000 -timeout 2h
	$(MAKE) --no-print-directory matrix RESULTS=bin/failure-matrix.json
	$(MAKE) --no-print-directory e2e-fence RUNS=10
	$(MAKE) --no-print-directory e2e-gate RUNS=10

check: ## everything CI does, in the same order
	.ci/run
