cp /etc/linkspan-apache.conf /etc/apache2/apache2.conf
rm -rf /etc/linkspan-apache.conf /etc/apache2/sites-* /etc/apache2/conf-* /etc/apache2/mods-enabled
install -d -m 755 /var/log/apache2
