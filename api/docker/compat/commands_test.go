package compat

// command is a docker command that uses one option. Objects it makes are cleared
// away after it.
type command struct {
	option string // as the page names it
	args   string // separated by spaces
}

// netCommands are all flags of docker network create, and of what puts a container
// on a network. The network "there" and the container "member", which runs, exist.
var netCommands = []struct {
	title, about string
	commands     []command
}{
	{"docker network create", "", []command{
		{"`--driver bridge`", "network create -d bridge t"},
		{"`--driver macvlan`", "network create -d macvlan t"},
		{"`--driver ipvlan`", "network create -d ipvlan t"},
		{"`--driver overlay`", "network create -d overlay t"},
		{"`--driver host`", "network create -d host t"},
		{"`--subnet`, `--gateway`", "network create --subnet 172.25.0.0/16 --gateway 172.25.0.1 t"},
		{"`--subnet` IPv6", "network create --ipv6 --subnet fd00:25::/64 --gateway fd00:25::1 t"},
		{"`--ip-range`", "network create --subnet 172.25.0.0/16 --ip-range 172.25.5.0/24 t"},
		{"`--aux-address`", "network create --subnet 172.25.0.0/16 --aux-address router=172.25.0.2 t"},
		{"`--ipv6`", "network create --ipv6 t"},
		{"`--ipv4=false`", "network create --ipv4=false --ipv6 t"},
		{"`--internal`", "network create --internal t"},
		{"`--attachable`", "network create --attachable t"},
		{"`--label`", "network create --label a=b t"},
		{"`--scope local`", "network create --scope local t"},
		{"`--scope swarm`", "network create --scope swarm t"},
		{"`--ingress`", "network create --ingress t"},
		{"`--config-only`", "network create --config-only --subnet 172.25.0.0/16 t"},
		{"`--config-from`", "network create --config-from base t"},
		{"`--ipam-driver default`", "network create --ipam-driver default t"},
		{"`--ipam-driver null`", "network create --ipam-driver null t"},
		{"`--ipam-driver` of a plugin", "network create --ipam-driver other t"},
		{"`--ipam-opt`", "network create --ipam-opt a=b t"},
	}},
	{"Options of bridge networks (`-o`)", "", []command{
		{"`com.docker.network.bridge.name`", "network create -o com.docker.network.bridge.name=brt t"},
		{"`com.docker.network.bridge.enable_ip_masquerade`", "network create -o com.docker.network.bridge.enable_ip_masquerade=false t"},
		{"`com.docker.network.bridge.enable_icc`", "network create -o com.docker.network.bridge.enable_icc=false t"},
		{"`com.docker.network.bridge.inhibit_ipv4`", "network create -o com.docker.network.bridge.inhibit_ipv4=true t"},
		{"`com.docker.network.bridge.host_binding_ipv4`", "network create -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 t"},
		{"`com.docker.network.bridge.gateway_mode_ipv4=nat`", "network create -o com.docker.network.bridge.gateway_mode_ipv4=nat t"},
		{"`com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected`", "network create -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected t"},
		{"`com.docker.network.bridge.gateway_mode_ipv4=routed`", "network create -o com.docker.network.bridge.gateway_mode_ipv4=routed t"},
		{"`com.docker.network.bridge.gateway_mode_ipv4=isolated`", "network create --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated t"},
		{"`com.docker.network.bridge.gateway_mode_ipv6=nat`", "network create --ipv6 -o com.docker.network.bridge.gateway_mode_ipv6=nat t"},
		{"`com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected`", "network create --ipv6 -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected t"},
		{"`com.docker.network.bridge.gateway_mode_ipv6=routed`", "network create --ipv6 -o com.docker.network.bridge.gateway_mode_ipv6=routed t"},
		{"`com.docker.network.bridge.gateway_mode_ipv6=isolated`", "network create --internal --ipv6 -o com.docker.network.bridge.gateway_mode_ipv6=isolated t"},
		{"`com.docker.network.bridge.trusted_host_interfaces`", "network create -o com.docker.network.bridge.trusted_host_interfaces=wan0 t"},
		{"`com.docker.network.driver.mtu`", "network create -o com.docker.network.driver.mtu=1400 t"},
		{"`com.docker.network.container_iface_prefix`", "network create -o com.docker.network.container_iface_prefix=lan t"},
		{"`com.docker.network.host_ipv4`", "network create -o com.docker.network.host_ipv4=192.168.99.31 t"},
		{"`com.docker.network.host_ipv6`", "network create --ipv6 -o com.docker.network.host_ipv6=fd99::31 t"},
		{"`com.docker.network.advertise_addr_nmsgs`", "network create -o com.docker.network.advertise_addr_nmsgs=2 t"},
		{"`com.docker.network.advertise_addr_ms`", "network create -o com.docker.network.advertise_addr_ms=200 t"},
		{"`com.docker.network.enable_ipv4`", "network create --ipv6 -o com.docker.network.enable_ipv4=false t"},
		{"`com.docker.network.enable_ipv6`", "network create -o com.docker.network.enable_ipv6=true t"},
		{"an unknown key", "network create -o com.docker.network.bridge.enable_iccc=true t"},
	}},
	{"docker network connect, docker run", "Several `--network` work with `docker run`. Options of an endpoint are told with `--driver-opt` there, and in `--network name=NET,driver-opt=KEY=VALUE` here.", []command{
		{"`--alias`", "network connect --alias a there member"},
		{"`--ip`", "network connect --ip 172.24.0.9 there member"},
		{"`--ip6`", "network connect --ip6 fd00:24::9 there member"},
		{"`--link`", "network connect --link web:db there member"},
		{"`--link-local-ip`", "network connect --link-local-ip 169.254.7.7 there member"},
		{"`--gw-priority`", "network connect --gw-priority 5 there member"},
		{"`mac-address`", "run -d --name tt --network name=there,mac-address=02:42:00:00:00:77 busybox sleep 60"},
		{"several networks", "run -d --name tt --network there --network other busybox sleep 60"},
		{"`com.docker.network.endpoint.ifname`", "network connect --driver-opt com.docker.network.endpoint.ifname=lan0 there member"},
		{"`com.docker.network.endpoint.sysctls`", "network connect --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 there member"},
		{"`com.docker.network.host_ipv4`", "network connect --driver-opt com.docker.network.host_ipv4=192.168.99.31 there member"},
		{"`com.docker.network.host_ipv6`", "network connect --driver-opt com.docker.network.host_ipv6=fd99::31 there member"},
		{"`com.docker.network.advertise_addr_nmsgs`", "network connect --driver-opt com.docker.network.advertise_addr_nmsgs=0 there member"},
		{"`com.docker.network.advertise_addr_ms`", "network connect --driver-opt com.docker.network.advertise_addr_ms=500 there member"},
		{"an unknown option", "network connect --driver-opt com.docker.network.endpoint.ifnam=x there member"},
		{"`--link` on the default bridge", "run -d --name tt --link member:m busybox sleep 60"},
		{"`host`", "network connect host member"},
		{"`none`", "network connect none member"},
	}},
}

// filters are all that the lists and prunes of the API take, each with a value
// that is well formed.
var filters = []struct {
	method, path string
	keys         []string // key=value
}{
	{"GET", "/containers/json", []string{"ancestor=busybox", "before=member", "exited=0", "expose=80/tcp", "health=none", "id=a", "is-task=false", "isolation=default",
		"label=a=b", "name=a", "network=there", "publish=80", "since=member", "status=running", "volume=/x"}},
	{"GET", "/images/json", []string{"before=busybox", "dangling=true", "label=a", "reference=busy*", "since=busybox", "until=1h"}},
	{"GET", "/networks", []string{"dangling=true", "driver=bridge", "id=a", "label=a=b", "name=a", "scope=local", "type=custom"}},
	{"GET", "/volumes", []string{"dangling=true", "driver=local", "label=a", "name=a"}},
	{"GET", "/events?until=1", []string{"config=x", "container=x", "daemon=x", "event=start", "image=x", "label=a", "network=x", "node=x", "plugin=x", "scope=local", "secret=x", "service=x", "type=container", "volume=x"}},
	{"POST", "/containers/prune", []string{"label=nobody=has", "label!=keep", "until=1h"}},
	{"POST", "/images/prune", []string{"dangling=true", "label=nobody=has", "label!=keep", "until=1h"}},
	{"POST", "/networks/prune", []string{"label=nobody=has", "label!=keep", "until=1h"}},
	{"POST", "/volumes/prune", []string{"all=false", "label=nobody=has", "label!=keep"}},
	{"POST", "/build/prune", []string{"until=1h"}},
}
