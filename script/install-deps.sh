#!/bin/sh
# install-deps.sh [test]
#
# Installs what Linkspan needs to run and, with "test", what its tests, benches
# and test images need, from Debian's packages. Does nothing when all is there.
# Starts no service. Works without systemd, in a container, twice.
set -eu

say() { echo "install-deps: $*" >&2; }

# What to have, as COMMAND-or-FILE:PACKAGE. A command that is there already,
# from whatever package (Docker's containerd.io, say), is not installed over.
run="containerd:containerd runc:runc nft:nftables ip:iproute2 /etc/ssl/certs/ca-certificates.crt:ca-certificates"
test="mmdebstrap:mmdebstrap docker-registry:docker-registry unshare:util-linux nsenter:util-linux
	mariadb:mariadb-client psql:postgresql-client redis-cli:redis-tools curl:curl ping:iputils-ping
	brctl:bridge-utils ethtool:ethtool netstat:net-tools jq:jq conntrack:conntrack dig:bind9-dnsutils
	iptables:iptables socat:socat nc:netcat-openbsd iperf3:iperf3 tar:tar ps:procps
	tini:tini dnsmasq:dnsmasq-base script:bsdutils etcd:etcd-server
	docker-compose:docker-compose /usr/lib/python3/dist-packages/docker/__init__.py:python3-docker
	chromium-headless-shell:chromium-headless-shell
	/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring"

# The administrator's commands, also for a caller whose PATH lacks them.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" > /dev/null 2>&1 ;;
	esac
}

missing() {
	for pair in "$@"; do
		have "${pair%%:*}" || printf '%s\n' "${pair#*:}"
	done | sort -u
}

want=$run
case ${1:-} in
"") ;;
test) want="$run $test" ;;
*) say "usage: install-deps.sh [test]"; exit 2 ;;
esac

# shellcheck disable=SC2086 # a list of words
packages=$(missing $want)
docker=
[ "${1:-}" != test ] || have docker || docker=yes
if [ -z "$packages" ] && [ -z "$docker" ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	# shellcheck disable=SC2086
	say "missing:" $packages ${docker:+docker}
	say "run this as root, or install them yourself"
	exit 1
fi
have apt-get || { say "missing:" $packages; say "no apt-get here: install them by this system's own means"; exit 1; }

work=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
kept=

# No maintainer script may start a service: 101 is "forbidden by policy"
# (invoke-rc.d(8)). What stood there before comes back whatever happens.
finish() {
	if [ -n "$kept" ]; then
		rm -f "$policy"
		[ ! -e "$work/policy-rc.d" ] || cp -a "$work/policy-rc.d" "$policy"
	fi
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
if [ -e "$policy" ] || [ -L "$policy" ]; then
	cp -a "$policy" "$work/policy-rc.d"
fi
kept=yes
rm -f "$policy"
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 755 "$policy"

# Another apt on a fresh machine (unattended-upgrades) is waited for.
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"
}

updated=
update() {
	[ -z "$updated" ] || return 1
	updated=yes
	say "fetching package lists"
	apt update
}

# Lists older than a day name packages that the archive has replaced since.
if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 2>/dev/null | head -n 1)" ]; then
	update
fi

install_packages() {
	apt install -y --no-install-recommends "$@" > "$work/log" 2>&1
}

if [ -n "$packages" ]; then
	# shellcheck disable=SC2086
	say "installing" $packages
	# shellcheck disable=SC2086
	if ! install_packages $packages; then
		if ! { update && install_packages $packages; }; then
			cat "$work/log" >&2
			say "apt-get could not install them"
			exit 1
		fi
	fi
	# Their units are enabled by the packages: at the next boot they would hold port
	# 5000 with an empty registry, and ports 2379 and 2380 with an empty etcd.
	for pair in docker-registry:docker-registry etcd-server:etcd; do
		case " $(echo $packages) " in
		*" ${pair%%:*} "*)
			! have systemctl || systemctl disable "${pair#*:}" > /dev/null 2>&1 || true
			;;
		esac
	done
fi

# The docker command alone: Debian's docker.io package would start a daemon of
# its own, which takes docker0 and the firewall.
if [ -n "$docker" ]; then
	say "putting Debian's docker command into /usr/local/bin"
	(
		cd "$work"
		apt -o APT::Sandbox::User=root download docker-cli 2> /dev/null ||
			apt -o APT::Sandbox::User=root download docker.io ||
			{ update && apt -o APT::Sandbox::User=root download docker.io; }
		for deb in docker*.deb; do
			dpkg-deb -x "$deb" .
		done
		install -m 755 usr/bin/docker /usr/local/bin/docker
	)
fi

# shellcheck disable=SC2086
still=$(missing $want)
if [ -n "$still" ]; then
	# shellcheck disable=SC2086
	say "still missing after the installation:" $still
	exit 1
fi
