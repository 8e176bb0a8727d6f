groupadd -r -g 999 mysql
useradd -r -u 999 -g mysql -d /var/lib/mysql -s /usr/sbin/nologin mysql
ln -sf mariadb.cnf /etc/mysql/my.cnf
for tool in mysql mysqladmin mysqldump; do
	[ -e /usr/bin/$tool ] || ln -s mariadb"${tool#mysql}" /usr/bin/$tool
done
[ -e /usr/sbin/mysqld ] || ln -s mariadbd /usr/sbin/mysqld
# Tools of no use here, 5 MB each.
rm -f /usr/bin/resolveip /usr/bin/innochecksum
rm -f /usr/share/mysql/mysql_test_data_timezone.sql
: > /usr/share/mysql/fill_help_tables.sql

# The system tables are made once, here. A container's first start copies them
# (0.1 s) where mariadb-install-db would take seconds of it.
printf '#!/bin/sh\nexit 1\n' > /usr/bin/resolveip && chmod 755 /usr/bin/resolveip
install -d -o mysql -g mysql -m 755 /usr/local/share/mysql-template
mariadb-install-db --user=mysql --datadir=/usr/local/share/mysql-template \
	--auth-root-authentication-method=normal --skip-name-resolve --skip-test-db --force > /tmp/install.log 2>&1 ||
	{ cat /tmp/install.log; exit 1; }
rm -f /usr/local/share/mysql-template/ib_buffer_pool /usr/local/share/mysql-template/ibtmp1
install -d -o mysql -g mysql -m 1777 /var/lib/mysql
install -d -m 755 /docker-entrypoint-initdb.d
