#!/bin/sh
# fetch-dockerd.sh DIR
#
# Puts Debian's dockerd (20.10 on Debian 12) with docker-proxy and its docker
# command below DIR, to measure and compare against. Nothing is installed and
# nothing is started. Prints the path of dockerd; with DIR filled, only that.
#
# Start it with PATH=DIR/bin:$PATH, so that it finds its docker-proxy, and with
# --data-root, --exec-root, --pidfile, --host of your own, in a network
# namespace of your own.
set -eu

[ $# = 1 ] || { echo "usage: fetch-dockerd.sh DIR" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
if [ -x "$dir/bin/dockerd" ]; then
	echo "$dir/bin/dockerd"
	exit 0
fi

# Whole or absent: it gets its name when it is complete.
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/debs" "$work/root" "$work/bin"

download() {
	(cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$@" > "$work/log" 2>&1)
}
fetch() {
	if ! download "$@"; then
		if [ "$(id -u)" = 0 ] && apt-get -qq update > "$work/log" 2>&1 && download "$@"; then
			return
		fi
		cat "$work/log" >&2
		echo "fetch-dockerd: cannot download $*: is apt configured, and apt-get update done?" >&2
		exit 1
	fi
}

fetch docker.io
dpkg-deb -x "$work"/debs/docker.io_*.deb "$work/root"
# Libraries that this machine does not have.
if ldd "$work/root/usr/sbin/dockerd" | grep -q 'libdevmapper.*not found'; then
	fetch libdevmapper1.02.1
	dpkg-deb -x "$work"/debs/libdevmapper1.02.1_*.deb "$work/root"
fi
if LD_LIBRARY_PATH=$(echo "$work"/root/lib/*-linux-gnu) ldd "$work/root/usr/sbin/dockerd" | grep 'not found' >&2; then
	echo "fetch-dockerd: dockerd lacks these libraries" >&2
	exit 1
fi
for tool in usr/sbin/docker-proxy usr/bin/docker; do
	[ ! -e "$work/root/$tool" ] || ln -s "../root/$tool" "$work/bin/${tool##*/}"
done
cat > "$work/bin/dockerd" <<'WRAPPER'
#!/bin/sh
here=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
for lib in "$here"/root/lib/*-linux-gnu; do
	[ ! -d "$lib" ] || export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
exec "$here/root/usr/sbin/dockerd" "$@"
WRAPPER
chmod 755 "$work/bin/dockerd"
rm -rf "$work/debs" "$work/log" "$work/root/usr/share"
chmod 755 "$work"
if ! mv -T "$work" "$dir" 2> /dev/null && [ ! -x "$dir/bin/dockerd" ]; then
	echo "fetch-dockerd: $dir is there and is not ours: empty it or name another folder" >&2
	exit 1
fi
echo "$dir/bin/dockerd"
