# CI runs `make test` and nothing else. The commands are in scripts/ and testbed/.
.DEFAULT_GOAL := help

help:            ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo:            ## one job from event to comment on this machine alone, in under a minute after the build
	@examples/demo/run

test:            ## everything: set-up, checks, all tests on real servers; ends with "N passed, N failed"
	@scripts/test

lint:            ## the checks of `make test` without the tests
	@scripts/check locks fmt clippy fuzz doc api deny shell docs playbooks compose monitoring units kubernetes book alone package

api:             ## write the snapshots of the public API (CRATE/public-api.txt) after a change that is meant
	@scripts/check-api --update

man:             ## write the man pages and shell completions (deploy/package/generated) after a change of the command line
	@PUSHBUTTON_WRITE_GENERATED=1 cargo test --quiet --workspace --bin pushbutton-bin generated

reference:       ## write the JSON Schema and the reference pages of the book after a change of the configuration or the command line
	@PUSHBUTTON_WRITE_REFERENCE=1 cargo test --workspace --bin pushbutton-bin -- current

fmt:             ## format the Rust code
	@cargo fmt --all

doc:             ## the API documentation, in target/doc
	@scripts/check doc

testbed:         ## start real Gerrit, RabbitMQ and OpenStack on loopback, and say how to use them
	@testbed/testbed up gerrit rabbitmq3 rabbitmq4 openstack
	@testbed/testbed guide

testbed-down:    ## stop them
	@testbed/testbed down

chaos:           ## break real servers while 200 jobs run (CHAOS_JOBS, CHAOS_SEED, CHAOS_RABBITMQ): nothing lost, doubled, leaked
	@CHAOS_JOBS=$${CHAOS_JOBS:-200} scripts/chaos

fuzz:            ## mutated input for each parser of foreign data, a minute each (FUZZ_SECONDS, FUZZ_TARGETS)
	@scripts/fuzz

release:         ## the files of a release of the tagged commit, in target/release-files: packages, tarball, SBOM, checksums
	@scripts/release

test-compose:    ## deploy/compose on a real container engine: build, run, scale, kill, upgrade, take down; prints the README's table
	@scripts/test-compose

bench-ingest:    ## 100,000 events from an sshd through the handler into RabbitMQ, beside the plain SSH client
	@bench/run ingest

bench-latency:   ## from an event to the claim of a waiting operator, at a paced rate, on both queues
	@bench/run latency

bench-overhead:  ## what an operator adds to each job whose parts do nothing, on both queues
	@bench/run overhead

bench-in-flight: ## memory of an operator with 1,000 runs in flight, on both queues
	@bench/run in-flight

bench-waiting:   ## 100 operators and up to 10,000 waiting jobs, on both queues: time per job
	@bench/run waiting

bench-long-log:  ## 1 GiB of output through a run: throughput and memory
	@bench/run long-log

bench-start:     ## from the start of the program to its work
	@bench/run start

bench-idle:      ## memory of an idle handler and operator
	@bench/run idle

bench-sizes:     ## size of the binary, and of what it consists
	@bench/run sizes

bench: bench-ingest bench-latency bench-overhead bench-in-flight bench-waiting bench-long-log bench-start bench-idle bench-sizes ## all of them; see bench/README.md

.PHONY: help demo test lint api man reference fmt doc testbed testbed-down chaos fuzz release test-compose bench bench-ingest bench-latency bench-overhead bench-in-flight bench-waiting bench-long-log bench-start bench-idle bench-sizes
