# What apt and dpkg needed to make the base, and a container does not.
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap
rm -rf /var/lib/apt/lists /var/cache/apt /var/cache/debconf /var/log /usr/share/info /usr/share/lintian
rm -f /var/lib/dpkg/*-old
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/cache/debconf /var/log
# Docker writes these three per container; a name of the build host must not stay.
rm -f /etc/hostname /etc/resolv.conf
: > /etc/machine-id
# resolv.conf and hosts of the namespace decide, nothing of systemd's.
printf '%s\n' 'passwd: files' 'group: files' 'shadow: files' 'hosts: files dns' \
	'networks: files' 'protocols: files' 'services: files' > /etc/nsswitch.conf
