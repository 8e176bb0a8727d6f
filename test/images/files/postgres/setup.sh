groupadd -r -g 999 postgres
useradd -r -u 999 -g postgres -d /var/lib/postgresql -s /bin/bash postgres
bin=$(ls -d /usr/lib/postgresql/*/bin)
# One path for every version, for the image's PATH.
ln -s "$(basename "$(dirname "$bin")")/bin" /usr/lib/postgresql/bin
for tool in psql pg_dump pg_isready createdb; do
	ln -sf "/usr/lib/postgresql/bin/$tool" "/usr/local/bin/$tool"
done
# The JIT and its 100 MB of LLVM are left out.
rm -rf /usr/lib/postgresql/*/lib/llvmjit* /usr/lib/postgresql/*/lib/bitcode
sample=$(ls /usr/share/postgresql/*/postgresql.conf.sample)
printf '%s\n' "listen_addresses = '*'" 'jit = off' 'shared_buffers = 16MB' >> "$sample"
install -d -o postgres -g postgres -m 755 /var/lib/postgresql
install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
install -d -m 755 /docker-entrypoint-initdb.d
# A cluster made here once is copied at a container's first start: initdb would
# take seconds of it. Superuser "postgres", as the image's default is.
install -d -o postgres -g postgres -m 700 /usr/local/share/postgres-template
setpriv --reuid=postgres --regid=postgres --init-groups "$bin/initdb" \
	--pgdata=/usr/local/share/postgres-template --username=postgres --encoding=UTF8 \
	--locale=C.UTF-8 --auth=trust --wal-segsize=1 > /dev/null
