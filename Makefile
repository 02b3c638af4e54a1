.DEFAULT_GOAL := help
.PHONY: build web run test check fmt lint generate fresh vuln bench e2e clean help

GO ?= go
export CGO_ENABLED ?= 0
version := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

build: web ## build bin/jimu with the page inside
	$(GO) build -trimpath -ldflags "-s -w -X github.com/jimu-ai/jimu/internal/app.version=$(version)" -o bin/jimu ./cmd/jimu

web: web/dist/index.html ## build the page

web/dist/index.html: web/package-lock.json $(shell find web/src web/public web/index.html web/vite.config.ts 2>/dev/null)
	cd web && npm ci --no-audit --no-fund && npm run build

run: build ## build, then serve on http://localhost:8080 with ./data
	./bin/jimu serve

test: ## run every test; installs what they need from the package managers
	scripts/test

check: fmt-check lint fresh vuln test ## format, lint, generated files, vulnerabilities, then test

help: ## list targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
