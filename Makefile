# Anytime. `make run` and `make test` are all one needs; `make help` lists the rest.

GO      ?= go
ADDRESS ?= 127.0.0.1:7880
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SOURCES  = $(shell git ls-files -co --exclude-standard -- '*.go' '*.sql' go.mod go.sum)
PAGES    = $(shell git ls-files -co --exclude-standard -- web ':!web/e2e' ':!*.go')

.NOTPARALLEL:
.PHONY: help run lan build check test unit race fuzz bench bench-load bench-turn bench-network bench-network-browsers e2e tools clean

help: ## what each target does
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/' | expand -t 24

run: build ## build everything and start the app on this machine (http://localhost:7880)
	bin/anytime serve --listen $(ADDRESS) --registration open

lan: build ## the same over HTTPS for phones on this network (https://<this machine>:7443)
	bin/anytime serve --listen :7880 --https :7443 --self-signed --registration open

build: bin/anytime ## the one binary, with the web app in it

bin/anytime: web/dist/index.html $(SOURCES)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $@ ./cmd/anytime

web/dist/index.html: web/node_modules/.installed $(PAGES)
	cd web && npm run --silent build && touch dist/index.html

web/node_modules/.installed: web/package-lock.json
	cd web && npm ci --no-audit --no-fund --silent && touch node_modules/.installed

check: web/node_modules/.installed ## formatting, vet, static analysis, types and lint of the web
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd web && npm run --silent check && npm run --silent lint

test: tools check build unit race e2e ## every test: static checks, Go with the race detector, web, fuzzing, browsers
	cd web && npm test --silent
	scripts/fuzz 180
	@echo "make test: everything passed"

unit: ## the Go tests, all of them
	$(GO) test -parallel 6 -timeout 20m ./...

race: ## the Go tests with the race detector, without repetitions that take it long
	$(GO) test -race -short -timeout 20m ./...

fuzz: ## every fuzz target for a minute each
	scripts/fuzz

bench: ## the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-load: ## CPU per packet, loss and latency under load; REFERENCE=binary measures another server beside it
	scripts/bench-load $(or $(ROUNDS),4) $(REFERENCE)

bench-turn: ## what relaying a packet to our SFU costs, beside coturn
	scripts/bench-turn $(ROUNDS)

bench-network: ## bandwidth estimate and loss repair on simulated links, next to the targets
	$(GO) test -count=1 -v -run 'TestNetwork|TestRandomLinks' ./sfu/bwe
	$(GO) test -count=1 -v -run 'TestRepair|TestImpaired' ./sfu/sfutest

bench-network-browsers: tools build ## the targets with browsers on bad links (root); REFERENCE=binary measures another server beside it
	cd web && node e2e/network/bench.mjs $(if $(REFERENCE),--reference $(abspath $(REFERENCE))) $(ARGS)

e2e: tools build ## real browsers against the real server
	cd web && npm run --silent e2e

tools: ## install what the tests need and this machine lacks
	scripts/install-test-tools

clean: ## remove what was built, and nothing else
	rm -rf bin artifacts web/dist/assets web/dist/index.html
