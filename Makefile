# What one does with a checkout. `make help` lists it.
#
# `make test` is what the continuous integration runs, so that a green run here means a green run there. It builds
# one profile only (dev): lint and documentation share the check artefacts, tests use the program as cargo builds it.

.DEFAULT_GOAL := help
.PHONY: help test check tools bench overload optimized bench-optimized demo image clean-tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: tools check ## everything: install what tests need, lint, document, test
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	REQUIRE_REDIS=1 REQUIRE_ENVOY=1 REQUIRE_PROMETHEUS=1 cargo test --locked

check: ## the quick part: format and lint
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

tools: ## install the servers that the tests run against, where they are missing
	@scripts/install-test-tools

bench: ## compare with a bare gRPC server in the same run (ten minutes), and write docs/benchmarks.md
	cargo build --release --locked --bin tidegate --bin tidegate-bench
	target/release/tidegate-bench compare --output docs/benchmarks.md $(BENCH_FLAGS)

overload: ## attack and overload servers (three minutes), and write docs/overload.md
	cargo build --release --locked --bin tidegate --bin tidegate-bench
	target/release/tidegate-bench overload --output docs/overload.md $(OVERLOAD_FLAGS)

optimized: ## build target/optimized/tidegate, laid out by a profile of itself under load (ten minutes; needs rustup)
	scripts/build-optimized

bench-optimized: optimized ## compare that build too, and write docs/benchmarks-optimized.md
	cargo build --release --locked --bin tidegate --bin tidegate-bench
	target/release/tidegate-bench compare --server target/optimized/tidegate --output docs/benchmarks-optimized.md $(BENCH_FLAGS)

demo: ## watch a shop collapse and then survive (three minutes), and write target/demo.html
	cargo build --locked --bins
	target/debug/tidegate-demo --output target/demo.html $(DEMO_FLAGS)

image: ## build the container images, tagged tidegate and tidegate-shop
	docker build --tag tidegate --file docker/Dockerfile .
	docker build --tag tidegate-shop --target shop --file docker/Dockerfile .

clean-tools: ## remove what `make tools` put into .tools
	rm -rf .tools
