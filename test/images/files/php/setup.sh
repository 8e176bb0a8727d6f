fpm=$(ls /usr/sbin/php-fpm*)
ln -s "$(basename "$fpm")" /usr/sbin/php-fpm
cli=$(ls /usr/bin/php[0-9]*)
ln -sf "$(basename "$cli")" /usr/bin/php
version=${cli#/usr/bin/php}
# dpkg's triggers would enable the modules; here each lies in its place.
for sapi in cli fpm; do
	install -d "/etc/php/$version/$sapi/conf.d"
	cp "/usr/lib/php/$version/php.ini-development" "/etc/php/$version/$sapi/php.ini"
	for module in mysqlnd pdo mysqli pdo_mysql; do
		printf 'extension=%s\n' "$module" > "/etc/php/$version/$sapi/conf.d/20-$module.ini"
	done
	for module in mysqlnd pdo; do
		mv "/etc/php/$version/$sapi/conf.d/20-$module.ini" "/etc/php/$version/$sapi/conf.d/10-$module.ini"
	done
done
cp /etc/linkspan-php/php-fpm.conf "/etc/php/$version/fpm/php-fpm.conf"
rm -rf "/etc/php/$version/fpm/pool.d" /etc/linkspan-php /usr/share/doc
chown -R www-data:www-data /var/www
