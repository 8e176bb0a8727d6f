#!/bin/sh
set -eu
[ $# -gt 0 ] || set -- php -S '[::]:8080' -t /var/www/adminer
if [ "$(id -u)" = 0 ] && [ "$1" = php ]; then
	# The session files of the login go to /tmp, as www-data.
	exec setpriv --reuid=www-data --regid=www-data --init-groups "$@"
fi
exec "$@"
