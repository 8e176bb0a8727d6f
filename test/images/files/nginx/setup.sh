install -d -m 755 /var/log/nginx /docker-entrypoint.d
# `docker logs` is the log.
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
