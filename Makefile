# Linkspan. `make help` says what there is.
export CGO_ENABLED ?= 0
# The version below says what go's own stamp would; under sudo git may refuse to be
# asked, and then go build would fail.
export GOFLAGS ?= -buildvcs=false
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
LDFLAGS := -s -w -X main.buildVersion=$(VERSION)
# Test binaries at once. Those that run daemons mostly wait: three fill two cores.
P ?= 3
# Of one package; all of them take about 15 minutes.
TEST_TIMEOUT ?= 20m
SOAK_TIMEOUT ?= 4h

# Where make install puts things; DESTDIR is for packages.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc

.PHONY: all help build deps images lint test soak bench demo demo-stop install uninstall clean

all: build

help:
	@echo 'make build      bin/linkspan'
	@echo 'make demo       install what is missing, start a daemon, run MariaDB, query it (root)'
	@echo 'make demo-stop  take all of it away again (root)'
	@echo 'make test       lint and all tests; as root with real daemons, else the pure ones'
	@echo 'make soak       the same and what takes longer (root)'
	@echo 'make bench      side by side with dockerd 20.10 (root)'
	@echo 'make images     build the test images (root)'
	@echo 'make lint       gofmt, go vet, staticcheck, shell syntax, file lengths'
	@echo 'make install    binary, systemd units, man pages, completions, docker context (root; PREFIX, DESTDIR)'
	@echo 'make uninstall  all of it away again, and what daemons left in the kernel; PURGE=1: the data too'
	@echo 'make clean      remove what make built'

build:
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/linkspan ./cmd/linkspan

# As root: apt packages. Without root: nothing, tests say what they lack.
deps:
	@[ "$$(id -u)" != 0 ] || script/install-deps.sh test

images: deps
	go run ./test/images/cmd/images build

lint:
	@script/lint.sh

# The tests' daemons are built from this tree, without -trimpath and version, so
# that the build cache serves all of them. Images are built once, before the packages
# that share them start.
test: deps lint
	@script/test.sh -timeout $(TEST_TIMEOUT) -p $(P)

soak: deps
	LINKSPAN_SOAK=1 script/test.sh -timeout $(SOAK_TIMEOUT) -p $(P)

bench: deps build
	go run ./bench

demo:
	@script/demo.sh

demo-stop:
	@script/demo.sh stop

# No prerequisite: what `make` has built is installed, so that `sudo make install`
# needs no Go.
install:
	@[ -x bin/linkspan ] || $(MAKE) build
	@PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)' script/install.sh install

uninstall:
	@PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)' PURGE='$(PURGE)' script/install.sh uninstall

clean:
	rm -rf bin
