#!/bin/sh
# demo.sh: from a fresh machine to a database that other machines reach.
# demo.sh stop: takes all of it away again.
#
# LINKSPAN_DEMO_DIR=DIR keeps everything below DIR instead of /var/lib/linkspan and
# /run/linkspan (a short path: sockets lie in it).
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin
GOFLAGS=${GOFLAGS--buildvcs=false}
CGO_ENABLED=0
export PATH GOFLAGS CGO_ENABLED

if [ -n "${LINKSPAN_DEMO_DIR:-}" ]; then
	mkdir -p "$LINKSPAN_DEMO_DIR"
	base=$(cd "$LINKSPAN_DEMO_DIR" && pwd)
	data=$base/data run=$base/run
else
	data=/var/lib/linkspan run=/run/linkspan
fi
socket=$run/linkspan.sock
notes=$run/demo # what this script started, for its next run and for stop
machine=${LINKSPAN_DEMO_MACHINE:-linkspan-demo} # its name in `ip netns`
host_ip=198.18.77.1 machine_ip=198.18.77.2 # RFC 2544: no one's real network
password=123456
linkspan=$PWD/bin/linkspan

began=$(date +%s)
step() { printf '\n\033[1m== %s\033[0m (%d s)\n' "$*" "$(($(date +%s) - began))"; }
say() { printf '   %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# show COMMAND…: as typed, with what it prints.
show() { printf '\033[32m$ %s\033[0m\n' "$*"; "$@"; }
docker() { DOCKER_HOST=unix://$socket DOCKER_CONFIG=$notes/docker-config command docker "$@"; }
answers() { docker version > /dev/null 2>&1; }
alive() { [ -s "$notes/$1.pid" ] && kill -0 "$(cat "$notes/$1.pid")" 2> /dev/null; }
on_machine() { nsenter --net="/run/netns/$machine" -- "$@"; }
# taken PORT: by a process, or by a container (a reserved port does not listen).
taken() { ss -Hltn "sport = :$1" | grep -q . || docker ps --format '{{.Ports}}' | grep -q ":$1->"; }
# until_true SECONDS COMMAND…
until_true() {
	tries=$(($1 * 10)); shift
	until "$@" > /dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}
end() { # end NAME: a process of ours, by its pid
	! alive "$1" || kill "$(cat "$notes/$1.pid")"
	until_true 20 sh -c "! kill -0 $(cat "$notes/$1.pid" 2> /dev/null || echo 0)" || true
	rm -f "$notes/$1.pid"
}

[ "$(id -u)" = 0 ] || fail "run as root: sudo make demo"

stop() {
	step "Stopping the demo"
	if [ -d "$notes" ] && answers; then
		ids=$(docker ps -aq)
		# shellcheck disable=SC2086 # a list of words
		[ -z "$ids" ] || docker rm -f -v $ids > /dev/null
	fi
	made=$(cat "$notes/made" 2> /dev/null || true)
	[ ! -s "$notes/registry.pid" ] || end registry
	if [ -s "$notes/daemon.pid" ]; then
		end daemon
		# A daemon leaves its bridges and its table: the kernel goes on without it. Here
		# nobody comes back, so they go, and with them the run folder.
		"$linkspan" uninstall --data-root "$data" --exec-root "$run" | sed -e '/ stays: /d' -e 's/^/   /'
	fi
	ip netns delete "$machine" 2> /dev/null || true
	ip link delete lsdemo0 2> /dev/null || true
	# shellcheck disable=SC2086
	[ -z "$made" ] || rm -rf $made
	rm -rf "$notes"
	say "Nothing of it is left. Images and packages stay in their caches."
}

case ${1:-} in
stop) stop; exit 0 ;;
"") ;;
*) fail "usage: demo.sh [stop]" ;;
esac

step "Installing what is missing"
command -v go > /dev/null || fail "Go 1.26 or newer is needed: https://go.dev/dl/"
script/install-deps.sh test

step "Building bin/linkspan"
go build -o bin/linkspan ./cmd/linkspan
go build -o bin/images ./test/images/cmd/images
say "$($linkspan --version)"

step "Test images (there is no MySQL in Debian: the image mysql is MariaDB)"
bin/images build 2> /dev/null | sed 's/^/   /'

if [ ! -d "$notes" ]; then
	# Only what this script makes will be removed by it.
	made=
	for dir in "$data" "$run"; do
		[ -e "$dir" ] || made="$made $dir"
	done
	mkdir -p "$data" "$run" "$notes/docker-config"
	echo "$made" > "$notes/made"
fi

step "A registry on loopback, and the daemon"
if ! alive registry; then
	port=5000
	while ss -Hltn "sport = :$port" | grep -q .; do port=$((port + 1)); done
	setsid nohup bin/images serve -addr "127.0.0.1:$port" > "$notes/registry.url" 2> "$notes/registry.log" < /dev/null &
	echo $! > "$notes/registry.pid"
	until_true 60 grep -q http "$notes/registry.url" || fail "the registry does not start: $notes/registry.log"
fi
registry=$(cat "$notes/registry.url")
say "registry: $registry"
if ! answers; then
	setsid nohup "$linkspan" daemon --data-root "$data" --exec-root "$run" -H "unix://$socket" \
		--registry-mirror "$registry" >> "$notes/daemon.log" 2>&1 < /dev/null &
	echo $! > "$notes/daemon.pid"
	until_true 60 answers || { tail -n 20 "$notes/daemon.log" >&2; fail "the daemon does not start: $notes/daemon.log"; }
fi
say "daemon: unix://$socket, pid $(cat "$notes/daemon.pid"), log $notes/daemon.log"

step "Another machine: a network namespace at the end of a wire"
if ! ip netns list | grep -qw "$machine"; then
	ip netns add "$machine"
	ip link add lsdemo0 type veth peer name wan0 netns "$machine"
	ip addr add $host_ip/30 dev lsdemo0
	ip link set lsdemo0 up
	ip -n "$machine" addr add $machine_ip/30 dev wan0
	ip -n "$machine" link set lo up
	ip -n "$machine" link set wan0 up
fi
say "this host is $host_ip on lsdemo0, the machine is $machine_ip"

step "MariaDB in a container, published"
show docker pull mysql
port=$(docker port demo-mysql 3306 2> /dev/null | sed -n 's/^0\.0\.0\.0://p' | head -n 1)
if [ -z "$port" ]; then
	docker rm -f -v demo-mysql > /dev/null 2>&1 || true
	port=3306
	while taken $port; do port=$((port + 1)); done
	[ $port = 3306 ] || say "port 3306 is taken$(ss -Hltnp 'sport = :3306' | sed -n 's/.*users:((\([^)]*\)).*/ by \1/p' | head -n 1): $port is used instead"
	say "What it will make in the kernel, and why (linkspan plan; nothing is made yet):"
	DOCKER_HOST=unix://$socket "$linkspan" plan run --name demo-mysql -p "$port:3306" -e MYSQL_ROOT_PASSWORD=$password -d mysql | sed 's/^/   /'
	show docker run --name demo-mysql -p "$port:3306" -e MYSQL_ROOT_PASSWORD=$password -d mysql
fi
show docker ps

step "A query from the other machine, through the published port"
query() { on_machine mariadb --connect-timeout=2 -h $host_ip -P "$port" -u root -p$password "$@"; }
until_true 60 query -e 'select 1' || { docker logs demo-mysql >&2; fail "MariaDB does not answer on $host_ip:$port"; }
statement="create database if not exists shop; create table if not exists shop.orders (id int auto_increment primary key, what text); insert into shop.orders (what) values ('a linkspan'); select count(*) as orders, user() as asked_by, version() from shop.orders"
printf '\033[32mmachine$ mariadb -h %s -P %s -u root -p%s -e "%s"\033[0m\n' $host_ip "$port" $password "$statement"
query -t -e "$statement"
say "asked_by is the machine's own address: nothing hides clients from the server."

step "What was made in the kernel"
instance=$(sed -n 's/.*instance=\([0-9a-f]\{6\}\).*/\1/p' "$notes/daemon.log" | tail -n 1)
show ip -br link show group "$((0x4c000000 + 0x$instance))"
show nft list table inet "linkspan_$instance"
say "and what differs from what is declared:"
DOCKER_HOST=unix://$socket "$linkspan" reconcile --dry-run | sed 's/^/   /'

step "Yours now"
cat <<TEXT
   export DOCKER_HOST=unix://$socket
   docker ps
   docker run -d -p 8080:80 nginx && curl -I http://127.0.0.1:8080/
   images here: $(bin/images list 2> /dev/null | awk 'NR > 1 { printf "%s ", $1 }')

   sudo make demo-stop${LINKSPAN_DEMO_DIR:+ LINKSPAN_DEMO_DIR=$LINKSPAN_DEMO_DIR}     takes all of it away
TEXT
