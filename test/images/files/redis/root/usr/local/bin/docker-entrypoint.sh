#!/bin/sh
# As the official redis image: all addresses, no protected mode, data in /data.
set -eu
[ $# -gt 0 ] || set -- redis-server
case $1 in
-* | *.conf) set -- redis-server "$@" ;;
esac
[ "$1" = redis-server ] || exec "$@"
case " $* " in
*" --protected-mode "*) ;;
*) set -- "$@" --protected-mode no ;;
esac
if [ "$(id -u)" = 0 ]; then
	chown redis:redis . 2>/dev/null || true
	exec setpriv --reuid=redis --regid=redis --init-groups "$@"
fi
exec "$@"
