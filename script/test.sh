#!/bin/sh
# test.sh [GO-TEST-FLAGS]: all tests. As root also those of the kernel and of real
# daemons; otherwise they skip, each with its reason.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
GOFLAGS=${GOFLAGS--buildvcs=false}
export PATH GOFLAGS CGO_ENABLED=0

start=$(date +%s)
say() { echo "test: $* ($(($(date +%s) - start)) s)"; }

say "building bin/linkspan"
go build -o bin/linkspan ./cmd/linkspan
# What each package that runs daemons would otherwise ask go build for again.
export LINKSPAN_TEST_BINARY="${LINKSPAN_TEST_BINARY:-$PWD/bin/linkspan}"
if [ "$(id -u)" = 0 ]; then
	say "building the test images"
	go run ./test/images/cmd/images build
else
	say "not root: the tests that need the kernel skip and say so"
fi
# go test starts packages in the order in which they are named: those that take minutes
# first, so that none of them is left to run alone.
long="./test/e2e/mesh ./test/e2e/crash ./mesh/host ./test/e2e/networks ./store/etcd ./store/etcd/server ./mesh/check
./test/faults ./test/e2e/core ./test/tour ./test/e2e/badinput ./test/e2e/clients ./test/e2e/compose ./test/e2e/ports"
say "go test" # go vet was lint's
code=0
# shellcheck disable=SC2086 # words
go test -count=1 -vet=off "$@" $long ./... || code=$?
say "exit code $code"
exit $code
