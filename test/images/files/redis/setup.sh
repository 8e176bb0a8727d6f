groupadd -r -g 999 redis
useradd -r -u 999 -g redis -d /data -s /usr/sbin/nologin redis
install -d -o redis -g redis -m 755 /data
