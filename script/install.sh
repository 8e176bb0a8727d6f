#!/bin/sh
# install.sh install|uninstall: what make install and make uninstall do.
#
# PREFIX (/usr/local) is where programs and pages go, SYSCONFDIR (/etc) where the
# settings are; DESTDIR is put before both, for packages: then nothing outside of it
# is touched. PURGE=1 uninstall removes images, containers, volumes and changed
# settings as well.
#
# Every file and folder that was made is written down in PREFIX/share/linkspan/installed,
# and that list is what uninstall removes.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

PREFIX=${PREFIX:-/usr/local} SYSCONFDIR=${SYSCONFDIR:-/etc} DESTDIR=${DESTDIR:-}
binary=${BINARY:-bin/linkspan}
bin=$PREFIX/bin
share=$PREFIX/share
units=$PREFIX/lib/systemd/system
list=$share/linkspan/installed
socket=/run/linkspan/linkspan.sock

say() { echo "$*"; }
fail() { echo "$*" >&2; exit 1; }
# live: this machine itself is meant, and its systemd reads our units.
live() {
	case $DESTDIR$PREFIX in /usr | /usr/local) ;; *) return 1 ;; esac
	[ -d /run/systemd/system ] && command -v systemctl > /dev/null
}

# folder DIR: makes it and what is missing above it, and writes down what it made.
folder() {
	[ ! -d "$DESTDIR$1" ] || return 0
	[ "$1" = / ] || folder "$(dirname "$1")"
	mkdir -m 755 "$DESTDIR$1"
	echo "$1" >> "$new"
}

# put MODE FILE TO: TO replaces what is there at once, so that a running binary may
# be replaced.
put() {
	folder "$(dirname "$3")"
	install -m "$1" "$2" "$DESTDIR$3.new"
	mv -f "$DESTDIR$3.new" "$DESTDIR$3"
	echo "$3" >> "$new"
}

# person COMMAND…: as the person behind sudo.
person() {
	if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
		runuser -u "$SUDO_USER" -- env HOME="$(getent passwd "$SUDO_USER" | cut -d: -f6)" "$@"
	else
		"$@"
	fi
}
docker_config() { person sh -c 'echo "${DOCKER_CONFIG:-$HOME/.docker}"'; }

context_add() {
	if ! command -v docker > /dev/null; then
		say "docker is not installed here: linkspan has all its commands; for docker later:"
		say "    docker context create linkspan --docker host=unix://$socket"
		return
	fi
	if person docker context inspect linkspan > /dev/null 2>&1; then
		say "the docker context \"linkspan\" is there"
		return
	fi
	config=$(docker_config)
	for dir in "$config" "$config/contexts" "$config/contexts/meta" "$config/contexts/tls"; do
		[ -d "$dir" ] || echo "$dir" >> "$work/made"
	done
	if person docker context create linkspan --description "Linkspan on this host" --docker "host=unix://$socket" > /dev/null 2> "$work/said"; then
		echo "context ${SUDO_USER:-$(id -un)}" >> "$new"
		[ ! -e "$work/made" ] || while read -r dir; do [ ! -d "$dir" ] || echo "made $dir" >> "$new"; done < "$work/made"
		say "docker has a context: docker context use linkspan"
	else
		say "docker could not be given a context: $(tail -n 1 "$work/said")"
	fi
}

context_remove() { # USER
	command -v docker > /dev/null || return 0
	SUDO_USER=$1
	! person docker context inspect linkspan 2> /dev/null | grep -q "unix://$socket" ||
		person docker context rm -f linkspan > /dev/null ||
		say "the docker context \"linkspan\" stays: docker context rm linkspan"
}

install_all() {
	[ -x "$binary" ] || fail "install: there is no $binary: make build"
	[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "install: run as root, or with DESTDIR=FOLDER"
	case $DESTDIR in "" | /*) ;; *) fail "install: DESTDIR must be an absolute path" ;; esac
	new=$work/new
	: > "$new"

	put 755 "$binary" "$bin/linkspan"

	HOME='~' DOCKER_CONFIG='' "$binary" manual "$work/man"
	for page in "$work"/man/man*/*; do
		section=$(basename "$(dirname "$page")")
		gzip -9n "$page"
		put 644 "$page.gz" "$share/man/$section/$(basename "$page").gz"
	done

	for shell in bash zsh fish; do "$binary" completion $shell > "$work/$shell"; done
	put 644 "$work/bash" "$share/bash-completion/completions/linkspan"
	put 644 "$work/zsh" "$share/zsh/site-functions/_linkspan"
	put 644 "$work/fish" "$share/fish/vendor_completions.d/linkspan.fish"

	group=root
	! getent group docker > /dev/null || group=docker
	for unit in linkspan.service linkspan.socket; do
		sed -e "s|@BIN@|$bin|g" -e "s|@ETC@|$SYSCONFDIR|g" -e "s|@GROUP@|$group|g" "packaging/systemd/$unit.in" > "$work/$unit"
		put 644 "$work/$unit" "$units/$unit"
	done
	if [ -e "$DESTDIR$SYSCONFDIR/default/linkspan" ]; then
		echo "$SYSCONFDIR/default/linkspan" >> "$new" # a person's: it stays as it is
	else
		put 644 packaging/default/linkspan "$SYSCONFDIR/default/linkspan"
	fi
	folder "$SYSCONFDIR/linkspan" # daemon.json's place

	[ -n "$DESTDIR" ] || context_add
	folder "$(dirname "$list")"
	# What an earlier installation made is still ours.
	{ cat "$DESTDIR$list" 2> /dev/null || true; cat "$new"; } | awk '!seen[$0]++' > "$work/list"
	install -m 644 "$work/list" "$DESTDIR$list"

	say "installed in ${DESTDIR:-}$PREFIX"
	if live; then
		systemctl daemon-reload
		say "start it:  systemctl enable --now linkspan.socket linkspan.service"
	elif [ -z "$DESTDIR" ]; then
		say "start it:  linkspan daemon"
	fi
}

uninstall_all() {
	[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "uninstall: run as root, or with DESTDIR=FOLDER"
	[ -s "$DESTDIR$list" ] || fail "uninstall: nothing is installed in $DESTDIR$PREFIX ($DESTDIR$list is not there)"
	if [ -z "$DESTDIR" ]; then
		! live || systemctl disable --now linkspan.service linkspan.socket > /dev/null 2>&1 || true
		# The daemon's own flags say where its data is.
		LINKSPAN_OPTS=
		[ ! -r "$SYSCONFDIR/default/linkspan" ] || . "$SYSCONFDIR/default/linkspan"
		# shellcheck disable=SC2086 # a list of words
		"$bin/linkspan" uninstall ${PURGE:+--purge} $LINKSPAN_OPTS ||
			fail "uninstall: something is left on this host (above); make uninstall again when that is cured"
	fi
	settings=$SYSCONFDIR/default/linkspan
	if [ -z "${PURGE:-}" ] && [ -e "$DESTDIR$settings" ] && ! cmp -s packaging/default/linkspan "$DESTDIR$settings"; then
		say "$settings stays, since it was changed (PURGE=1 removes it)"
		keep=$settings
	fi
	[ -z "${PURGE:-}" ] || rm -f "$DESTDIR$SYSCONFDIR/linkspan/daemon.json"
	cp "$DESTDIR$list" "$work/list"
	rm -f "$DESTDIR$list"
	# In reverse: files before the folders that hold them, and a folder goes only when
	# it is empty.
	sed '1!G;h;$!d' "$work/list" > "$work/reverse"
	for pass in files folders; do
		while read -r word rest; do
			case $word in
			context) [ $pass = folders ] || context_remove "$rest" ;;
			made) [ $pass = files ] || rmdir "$rest" 2> /dev/null || true ;;
			"${keep:-none}") ;;
			*)
				path=$DESTDIR$word${rest:+ $rest}
				if [ -d "$path" ] && [ ! -L "$path" ]; then
					[ $pass = files ] || rmdir "$path" 2> /dev/null || true
				elif [ $pass = files ]; then
					rm -f "$path"
				fi
				;;
			esac
		done < "$work/reverse"
	done
	! live || systemctl daemon-reload
	say "uninstalled from ${DESTDIR:-}$PREFIX"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
keep=
case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) fail "usage: install.sh install|uninstall" ;;
esac
