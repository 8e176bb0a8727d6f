#!/bin/sh
# lint.sh: what a reviewer should not have to say. Needs go and sh only.
set -eu
cd "$(dirname "$0")/.."
bad=0

# find, not git: under sudo git may refuse a tree that is another user's.
files=$(find . -name '*.go' -not -path '*/testdata/*' -not -path './.git/*' -not -path './bin/*')
# shellcheck disable=SC2086 # a list of words
unformatted=$(gofmt -l $files 2>&1 || true)
if [ -n "$unformatted" ]; then
	echo "lint: gofmt -w these:" $unformatted >&2
	bad=1
fi

# docs/design.md, "Style": no file over 600 lines.
# shellcheck disable=SC2086
long=$(wc -l $files | awk '$2 != "total" && $1 > 600 { print $2 " (" $1 " lines)" }')
if [ -n "$long" ]; then
	echo "lint: over 600 lines:" $long >&2
	bad=1
fi

for script in .ci/run script/*.sh; do
	shell=sh
	! head -n 1 "$script" | grep -q bash || shell=bash
	$shell -n "$script" || bad=1
done

echo "lint: go vet ./..."
go vet ./... || bad=1

# Pinned in a module of its own (script/tool). Where it cannot be fetched, that is said.
if go -C script/tool build -o ../../bin/staticcheck honnef.co/go/tools/cmd/staticcheck; then
	echo "lint: staticcheck ./..."
	bin/staticcheck ./... || bad=1
else
	echo "lint: staticcheck could not be built, and was left out" >&2
fi
exit $bad
