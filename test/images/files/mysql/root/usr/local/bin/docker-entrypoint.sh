#!/bin/bash
# The part of the official mysql image's contract that people's command lines
# use: MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD, MYSQL_RANDOM_ROOT_PASSWORD,
# MYSQL_ROOT_HOST, MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD (and the MARIADB_
# and _FILE forms), /docker-entrypoint-initdb.d/*.sql, options as arguments.
set -euo pipefail

say() { echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) [Entrypoint]: $*" >&2; }
die() { say "$*"; exit 1; }

# setting NAME: MYSQL_NAME, MARIADB_NAME, or the file that one of them _FILE names.
setting() {
	local v
	for v in "MYSQL_$1" "MARIADB_$1"; do
		local f="${v}_FILE"
		if [ -n "${!v:-}" ]; then printf '%s' "${!v}"; return; fi
		if [ -n "${!f:-}" ]; then cat "${!f}"; return; fi
	done
}

# sql TEXT: TEXT as an SQL string literal.
sql() {
	local s=${1//\\/\\\\}
	printf "'%s'" "${s//\'/\'\'}"
}

statements() {
	local root=$1 host user
	host=$(setting ROOT_HOST); host=${host:-%}
	echo "FLUSH PRIVILEGES;"
	echo "ALTER USER root@localhost IDENTIFIED BY $(sql "$root");"
	if [ "$host" != localhost ]; then
		echo "CREATE OR REPLACE USER root@$(sql "$host") IDENTIFIED BY $(sql "$root");"
		echo "GRANT ALL ON *.* TO root@$(sql "$host") WITH GRANT OPTION;"
	fi
	local db; db=$(setting DATABASE)
	[ -z "$db" ] || echo "CREATE DATABASE IF NOT EXISTS \`${db//\`/\`\`}\`;"
	user=$(setting USER)
	if [ -n "$user" ]; then
		echo "CREATE OR REPLACE USER $(sql "$user")@'%' IDENTIFIED BY $(sql "$(setting PASSWORD)");"
		[ -z "$db" ] || echo "GRANT ALL ON \`${db//\`/\`\`}\`.* TO $(sql "$user")@'%';"
	fi
	local f
	for f in /docker-entrypoint-initdb.d/*.sql; do
		[ -e "$f" ] || continue
		[ -z "$db" ] || echo "USE \`${db//\`/\`\`}\`;"
		cat "$f"; echo
	done
}

initialise() {
	local data=$1; shift
	local root random=
	root=$(setting ROOT_PASSWORD)
	if [ -z "$root" ]; then
		if [ -n "$(setting RANDOM_ROOT_PASSWORD)" ]; then
			root=$(head -c 18 /dev/urandom | base64); random=1
		elif [ -z "$(setting ALLOW_EMPTY_PASSWORD)" ] && [ -z "${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-}" ]; then
			die "Database is uninitialized and password option is not specified
    You need to specify one of the following as an environment variable:
    - MYSQL_ROOT_PASSWORD
    - MYSQL_ALLOW_EMPTY_PASSWORD
    - MYSQL_RANDOM_ROOT_PASSWORD"
		fi
	fi
	say "Initializing database files"
	# The mark says "not whole yet": a container killed in here starts over.
	touch "$data/.initialising"
	cp -a /usr/local/share/mysql-template/. "$data/"
	chown mysql:mysql "$data"
	statements "$root" > /run/mysqld/init.sql
	"$@" --bootstrap < /run/mysqld/init.sql >&2 || die "initialising $data failed"
	rm -f /run/mysqld/init.sql "$data/.initialising"
	[ -z "$random" ] || say "GENERATED ROOT PASSWORD: $root"
	say "MariaDB init process done. Ready for start up."
}

[ $# -gt 0 ] || set -- mysqld
[ "${1#-}" = "$1" ] || set -- mysqld "$@"

case $1 in
mysqld | mariadbd) ;;
*) exec "$@" ;;
esac
for a in "$@"; do
	case $a in
	--help | -\? | --version | -V | --verbose) exec "$@" ;;
	esac
done

if [ "$(id -u)" = 0 ]; then
	install -d -o mysql -g mysql -m 755 /run/mysqld
	# A bind-mounted folder belongs to whoever made it on the host.
	data=$(mariadbd --print-defaults 2>/dev/null; printf ' %s' "${@:2}")
	data=$(printf '%s' "$data" | tr ' ' '\n' | sed -n 's/^--datadir=//p' | tail -n 1)
	data=${data%/}; data=${data:-/var/lib/mysql}
	mkdir -p "$data"
	[ "$(stat -c %U "$data")" = mysql ] || chown mysql:mysql "$data" || true
	set -- setpriv --reuid=mysql --regid=mysql --init-groups "$@"
	[ -d "$data/mysql" ] && [ ! -e "$data/.initialising" ] || initialise "$data" "$@"
else
	mkdir -p /run/mysqld
	[ -d /var/lib/mysql/mysql ] && [ ! -e /var/lib/mysql/.initialising ] || initialise /var/lib/mysql "$@"
fi
exec "$@"
