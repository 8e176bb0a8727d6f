ln -sf nc.openbsd /bin/nc
# Links that the packages' scripts would make by update-alternatives.
ln -sf traceroute.db /usr/bin/traceroute 2>/dev/null || true
for cmd in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
	[ -e /usr/sbin/$cmd ] || ln -s xtables-nft-multi /usr/sbin/$cmd
done
