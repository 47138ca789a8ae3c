# make demo      boots a real guest under the broker
# make test      all tests that run on this host
# make test-vm, make test-debian13   the same on other kernels, and with QEMU 10 (root only)
# make lint      formatting, clippy, documentation
# make bench     what the broker costs
# make fuzz      every fuzz target for a minute, or FUZZ_SECONDS=N
target := $(or $(CARGO_TARGET_DIR),target)
export BROKER_TESTS_GUEST ?= $(abspath $(target)/guest)

.PHONY: demo test test-vm test-debian13 bench fuzz lint install guest

demo: guest
	cargo build --release --package broker
	tests/setup/demo.sh $(target)/release/broker $(BROKER_TESTS_GUEST) $(target)/demo

test: guest
	cargo test --workspace

test-vm:
	tests/setup/install.sh apparmor
	tests/vm/test.sh $(target)/vm

test-debian13: guest
	tests/setup/install.sh debootstrap
	tests/debian13/test.sh $(target)/debian13 $(BROKER_TESTS_GUEST)

bench: guest
	tests/setup/install.sh bubblewrap
	cargo run --release --package benches

fuzz:
	fuzz/run.sh $(target)/fuzz $(or $(FUZZ_SECONDS),60)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

install:
	tests/setup/install.sh

guest: install
	tests/setup/guest.sh $(BROKER_TESTS_GUEST)
