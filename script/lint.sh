#!/bin/sh
# lint.sh: what a reviewer should not have to say. Needs go and sh only.
set -eu
cd "$(dirname "$0")/.."
bad=0

# find, not git: under sudo git may refuse a tree that is another user's.
files=$(find . -name '*.go' -not -path '*/testdata/*' -not -path './.git/*')
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
exit $bad
