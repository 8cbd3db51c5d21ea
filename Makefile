# CI runs `make test` and nothing else. The commands are in scripts/ and testbed/.
.DEFAULT_GOAL := help

help:            ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo:            ## one job from event to comment on this machine alone, in under a minute after the build
	@examples/demo/run

test:            ## everything: set-up, checks, all tests on real servers; ends with "N passed, N failed"
	@scripts/test

lint:            ## the checks of `make test` without the tests
	@scripts/check fmt clippy fuzz doc api deny shell docs playbooks compose monitoring units kubernetes book alone package

api:             ## write the snapshots of the public API (CRATE/public-api.txt) after a change that is meant
	@scripts/check-api --update

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

test-compose:    ## deploy/compose on a real container engine: build, run, scale, kill, upgrade, take down; prints the README's table
	@scripts/test-compose

bench-ingest:    ## 100,000 events from an sshd through the handler into RabbitMQ
	@scripts/bench-ingest

bench-idle:      ## memory of an idle handler and operator
	@scripts/bench-idle

.PHONY: help demo test lint api reference fmt doc testbed testbed-down chaos fuzz test-compose bench-ingest bench-idle
