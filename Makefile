.DEFAULT_GOAL := help
.PHONY: build web run test check fmt fmt-check lint generate fresh vuln bench e2e clean help

GO ?= go
tools := $(CURDIR)/.cache/bin
golangci := $(tools)/golangci-lint
govulncheck := $(tools)/govulncheck
version := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

build: web ## build bin/jimu with the page inside
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X github.com/jimu-ai/jimu/internal/app.version=$(version)" -o bin/jimu ./cmd/jimu

web: web/dist/index.html ## build the page

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund

web/dist/index.html: web/node_modules/.package-lock.json web/index.html web/vite.config.ts $(shell find web/src web/public web/scripts -type f 2>/dev/null)
	cd web && npm run build
	touch $@

run: build ## build, then serve on http://localhost:8080 with ./data
	./bin/jimu serve

test: ## run every test; installs what they need from the package managers
	scripts/test

check: fmt-check lint fresh vuln test ## format, lint, generated files, vulnerabilities, then test

fmt: $(golangci) ## format the Go files
	$(golangci) fmt ./...

fmt-check: $(golangci) ## fail on unformatted Go files
	$(golangci) fmt --diff ./...

lint: $(golangci) ## lint the Go files (the page's lint is a part of test)
	$(golangci) run ./...

generate: ## write the generated files anew
	$(GO) generate ./...
	$(GO) test ./cmd/jimu -run TestBrickDocs -update-docs

fresh: generate ## fail where a generated file is stale
	git diff --exit-code -- docs internal cmd

# The vulnerability database: $$VULNDB (an address), or the copy that stands
# beside the project where there is no network, or the public one.
vuln: $(govulncheck) ## look for known vulnerabilities that the code reaches
	scripts/vuln $(govulncheck)

bench: build ## compare with nginx and a bare proxy, side by side (a few minutes)
	$(GO) run ./bench

e2e: build ## the page in a real browser
	cd web && npm run e2e

clean: ## remove what was built
	rm -rf bin .cache web/node_modules web/dist/assets web/dist/index.html*

$(golangci):
	GOBIN=$(tools) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

$(govulncheck):
	GOBIN=$(tools) $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.9.0

help: ## list targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
