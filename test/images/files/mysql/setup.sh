groupadd -r -g 999 mysql
useradd -r -u 999 -g mysql -d /var/lib/mysql -s /usr/sbin/nologin mysql
ln -sf mariadb.cnf /etc/mysql/my.cnf
# Kept of the client's tools: the shell, admin (for health checks) and dump.
for tool in /usr/bin/mariadb* /usr/bin/mysql* /usr/bin/mytop /usr/bin/msql2mysql /usr/bin/innotop \
	/usr/bin/perror /usr/bin/replace /usr/bin/resolve_stack_dump; do
	case ${tool##*/} in
	mariadb | mariadb-admin | mariadb-dump | mariadb-install-db | mariadb-upgrade | mysql | mysqladmin | mysqldump) ;;
	*) rm -f "$tool" ;;
	esac
done
[ -e /usr/sbin/mysqld ] || ln -s mariadbd /usr/sbin/mysqld
rm -f /usr/bin/resolveip /usr/bin/innochecksum
rm -f /usr/share/mysql/mysql_test_data_timezone.sql
: > /usr/share/mysql/fill_help_tables.sql

# The system tables are made once, here. A container's first start copies them
# (0.1 s) where mariadb-install-db would take seconds of it.
install -d -o mysql -g mysql -m 755 /usr/local/share/mysql-template
mariadb-install-db --user=mysql --datadir=/usr/local/share/mysql-template \
	--auth-root-authentication-method=normal --skip-name-resolve --skip-test-db --force > /tmp/install.log 2>&1 ||
	{ cat /tmp/install.log; exit 1; }
# Of its accounts only root@localhost stays: it also makes root@127.0.0.1,
# root@::1 and root@<name of the build host>, all without a password.
printf '%s\n' "DELETE FROM mysql.global_priv WHERE NOT (User = 'root' AND Host = 'localhost') AND User <> 'mariadb.sys';" \
	"DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';" |
	mariadbd --user=mysql --datadir=/usr/local/share/mysql-template --bootstrap > /tmp/install.log 2>&1 ||
	{ cat /tmp/install.log; exit 1; }
rm -f /usr/local/share/mysql-template/ib_buffer_pool /usr/local/share/mysql-template/ibtmp1
install -d -o mysql -g mysql -m 1777 /var/lib/mysql
install -d -m 755 /docker-entrypoint-initdb.d
