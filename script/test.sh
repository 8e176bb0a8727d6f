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
if [ "$(id -u)" = 0 ]; then
	say "building the test images"
	go run ./test/images/cmd/images build
else
	say "not root: the tests that need the kernel skip and say so"
fi
say "go test" # go vet was lint's
code=0
go test -count=1 -vet=off "$@" ./... || code=$?
say "exit code $code"
exit $code
