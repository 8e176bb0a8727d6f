#!/bin/bash
# The part of the official postgres image's contract that people's command lines
# use: POSTGRES_PASSWORD (required), POSTGRES_USER, POSTGRES_DB,
# POSTGRES_HOST_AUTH_METHOD, PGDATA (and the _FILE forms),
# /docker-entrypoint-initdb.d/*.sql and *.sh, options as arguments.
set -euo pipefail

die() { echo "$*" >&2; exit 1; }

setting() {
	local f="${1}_FILE"
	if [ -n "${!1:-}" ]; then printf '%s' "${!1}"; elif [ -n "${!f:-}" ]; then cat "${!f}"; else printf '%s' "${2:-}"; fi
}

as_postgres() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=postgres --regid=postgres --init-groups "$@"
	else
		"$@"
	fi
}

literal() { printf "'%s'" "${1//\'/\'\'}"; }
ident() { printf '"%s"' "${1//\"/\"\"}"; }

initialise() {
	local password method user db
	password=$(setting POSTGRES_PASSWORD)
	method=$(setting POSTGRES_HOST_AUTH_METHOD)
	user=$(setting POSTGRES_USER postgres)
	db=$(setting POSTGRES_DB "$user")
	if [ -z "$password" ] && [ "$method" != trust ]; then
		die "Error: Database is uninitialized and superuser password is not specified.
       You must specify POSTGRES_PASSWORD to a non-empty value for the
       superuser. For example, \"-e POSTGRES_PASSWORD=password\" on \"docker run\".

       You may also use \"POSTGRES_HOST_AUTH_METHOD=trust\" to allow all
       connections without a password. This is *not* recommended."
	fi
	# PG_VERSION comes last: a container killed in here starts over.
	local keep=/usr/local/share/postgres-template
	as_postgres find "$PGDATA" -mindepth 1 -delete
	(cd "$keep" && as_postgres cp -a --no-preserve=ownership $(ls -A | grep -vx PG_VERSION) "$PGDATA/")
	{
		# Single-user mode takes one statement a line.
		if [ "$user" != postgres ]; then
			echo "CREATE ROLE $(ident "$user") SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS LOGIN"
		fi
		[ -z "$password" ] || echo "ALTER ROLE $(ident "$user") PASSWORD $(literal "$password")"
		[ "$db" = postgres ] || echo "CREATE DATABASE $(ident "$db") OWNER $(ident "$user")"
	} > /tmp/.init.sql
	as_postgres cp "$keep/PG_VERSION" "$PGDATA/PG_VERSION"
	as_postgres postgres --single -D "$PGDATA" postgres < /tmp/.init.sql > /tmp/.init.log 2>&1 ||
		{ cat /tmp/.init.log >&2; rm -f "$PGDATA/PG_VERSION"; die "initialising $PGDATA failed"; }
	if grep -q ERROR: /tmp/.init.log; then
		cat /tmp/.init.log >&2; rm -f "$PGDATA/PG_VERSION"; die "initialising $PGDATA failed"
	fi
	rm -f /tmp/.init.sql /tmp/.init.log
	printf '\nhost all all all %s\n' "${method:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"
	scripts "$user" "$db"
	echo "PostgreSQL init process complete; ready for start up."
}

# scripts runs what lies in /docker-entrypoint-initdb.d, on a socket only.
scripts() {
	local f
	compgen -G '/docker-entrypoint-initdb.d/*' > /dev/null || return 0
	as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
	for f in /docker-entrypoint-initdb.d/*; do
		case $f in
		*.sql) psql -v ON_ERROR_STOP=1 -U "$1" -d "$2" -f "$f" ;;
		*.sh) bash "$f" ;;
		esac
	done
	as_postgres pg_ctl -D "$PGDATA" -m fast -w stop
}

[ $# -gt 0 ] || set -- postgres
[ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
for a in "$@"; do
	case $a in --help | -\? | --version | -V) exec "$@" ;; esac
done

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chown postgres:postgres "$PGDATA"
	chmod 700 "$PGDATA"
	install -d -o postgres -g postgres -m 2777 /run/postgresql /var/run/postgresql
fi
[ -s "$PGDATA/PG_VERSION" ] || initialise
if [ "$(id -u)" = 0 ]; then
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
fi
exec "$@"
