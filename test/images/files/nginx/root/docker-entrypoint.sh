#!/bin/sh
set -eu
if [ "${1:-}" = nginx ]; then
	for f in /docker-entrypoint.d/*.sh; do
		[ ! -e "$f" ] || sh "$f"
	done
fi
exec "$@"
