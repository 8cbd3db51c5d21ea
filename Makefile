# The front door. What CI runs is `make test`, word for word; the work is in scripts/ and testbed/.
.DEFAULT_GOAL := help

help:            ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo:            ## the main job on this machine alone, in under a minute after the build
	@examples/demo/run

test:            ## everything: set-up, checks, all tests on real servers; ends with "N passed, N failed"
	@scripts/test

lint:            ## the checks of `make test` without the tests
	@scripts/check fmt clippy fuzz doc deny shell docs playbooks compose alone package

fmt:             ## format the Rust code
	@cargo fmt --all

doc:             ## the API documentation, in target/doc
	@scripts/check doc

testbed:         ## start real Gerrit, RabbitMQ and OpenStack on loopback, and say how to use them
	@testbed/testbed up gerrit rabbitmq3 rabbitmq4 openstack
	@testbed/testbed guide

testbed-down:    ## end them
	@testbed/testbed down

chaos:           ## break real servers while 200 jobs run (CHAOS_JOBS, CHAOS_SEED, CHAOS_RABBITMQ): nothing lost, doubled, leaked
	@CHAOS_JOBS=$${CHAOS_JOBS:-200} scripts/chaos

fuzz:            ## mutate what strangers write, a minute for each reader (FUZZ_SECONDS, FUZZ_TARGETS)
	@scripts/fuzz

bench-ingest:    ## 100,000 events from an sshd through the handler into RabbitMQ
	@scripts/bench-ingest

bench-idle:      ## memory of a handler and an operator that wait
	@scripts/bench-idle

.PHONY: help demo test lint fmt doc testbed testbed-down chaos fuzz bench-ingest bench-idle
