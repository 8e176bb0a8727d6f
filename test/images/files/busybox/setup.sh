bb=/bin/busybox
$bb mkdir -p /bin /sbin /usr/bin /usr/sbin /etc /home /root /tmp /var/spool /var/www
$bb chmod 1777 /tmp
$bb chmod 700 /root
for applet in $($bb --list); do
	[ -e "/bin/$applet" ] || $bb ln -s busybox "/bin/$applet"
done
$bb rm -rf /usr/share
