package config

import (
	"log/slog"
	"net/netip"
	"time"

	units "github.com/docker/go-units"
)

// directives is every setting there is: dockerd's, and what becomes of each.
// The order within a class is the order of the help.
func directives() []directive {
	const (
		swarmless = "there is no swarm mode here; networks that span hosts are Linkspan's mesh (linkspan mesh init, --mesh)"
	)
	return []directive{
		// The daemon.
		{flag: "host", short: "H", key: "hosts", help: "Socket to listen on: unix:///path, tcp://ADDRESS:PORT, or fd:// for sockets from systemd (repeat for several; default EXEC-ROOT/linkspan.sock, called as dockerd /var/run/docker.sock)",
			val: list(func(c *Config) *[]Host { return &c.Hosts }, parseHost)},
		{flag: "config-file", help: "JSON configuration file", val: text(func(c *Config) *string { return &c.ConfigFile }, nil)},
		{flag: "validate", help: "Check flags and file, and exit", val: unused("bool")},
		{flag: "data-root", key: "data-root", help: "Directory of what outlives a reboot", val: text(func(c *Config) *string { return &c.DataRoot }, directory)},
		{flag: "exec-root", key: "exec-root", help: "Directory of sockets, pins and other state of this boot", val: text(func(c *Config) *string { return &c.ExecRoot }, directory)},
		{flag: "pidfile", short: "p", key: "pidfile", help: "File with the daemon's process id (default EXEC-ROOT/linkspan.pid)", val: text(func(c *Config) *string { return &c.Pidfile }, directory)},
		{flag: "group", short: "G", key: "group", help: "Group of the unix socket", val: text(func(c *Config) *string { return &c.Group }, nil)},
		{flag: "debug", short: "D", key: "debug", reload: true, help: "Log everything", val: boolean(func(c *Config) *bool { return &c.Debug })},
		{flag: "log-level", short: "l", key: "log-level", reload: true, help: "What to log: debug, info, warn, error or fatal", val: level(func(c *Config) *slog.Level { return &c.LogLevel })},
		{flag: "log-format", key: "log-format", help: "How to log: text or json", val: choice(func(c *Config) *string { return &c.LogFormat }, "text", "json")},
		{flag: "label", key: "labels", reload: true, help: "Label of the daemon, key=value", val: list(func(c *Config) *[]string { return &c.Labels }, label)},
		{flag: "shutdown-timeout", key: "shutdown-timeout", reload: true, help: "Seconds that containers get to stop; negative: no limit", val: seconds(func(c *Config) *time.Duration { return &c.ShutdownTimeout })},
		{flag: "repair", key: "repair", help: "Put right at once what somebody else changes of the kernel's objects; false: only linkspan reconcile and a restart do", val: boolean(func(c *Config) *bool { return &c.Repair })},
		{flag: "check-interval", key: "check-interval", help: "Seconds between two comparisons of the whole kernel with what is declared, since news can be lost; 0: never",
			val: seconds(func(c *Config) *time.Duration { return &c.CheckInterval })},
		{flag: "metrics-addr", key: "metrics-addr", reload: true, help: "Where Prometheus finds metrics, at /metrics: 127.0.0.1:9323, :9323 for every address, or unix:///path",
			val: text(func(c *Config) *string { return &c.MetricsAddr }, metricsAddr)},
		// The mesh.
		{flag: "mesh", key: "mesh", help: "etcd cluster that exists already, to hold the mesh: etcd://10.0.0.5:2379,10.0.0.6:2379 (without it: linkspan mesh init or join)",
			val: text(func(c *Config) *string { return &c.Mesh }, meshStore)},
		{flag: "mesh-ca", key: "mesh-ca", help: "CA of that etcd's certificates", val: text(func(c *Config) *string { return &c.MeshCA }, optionalPath)},
		{flag: "mesh-cert", key: "mesh-cert", help: "Certificate that this host shows to that etcd", val: text(func(c *Config) *string { return &c.MeshCert }, optionalPath)},
		{flag: "mesh-key", key: "mesh-key", help: "Key of --mesh-cert", val: text(func(c *Config) *string { return &c.MeshKey }, optionalPath)},
		{flag: "mesh-user", key: "mesh-user", help: "User of that etcd, where it has users", val: text(func(c *Config) *string { return &c.MeshUser }, nil)},
		{flag: "mesh-password-file", key: "mesh-password-file", help: "File with the password of --mesh-user, alone on its first line", val: text(func(c *Config) *string { return &c.MeshPasswordFile }, optionalPath)},
		{flag: "mesh-listen", key: "mesh-listen", help: "This host's own address on the wire that the mesh's hosts share (default: that of the route to the first of --mesh)",
			val: address(func(c *Config) *netip.Addr { return &c.MeshListen }, meshListen)},
		{flag: "mesh-name", key: "mesh-name", help: "This host's name in the mesh (default: the host name)", val: text(func(c *Config) *string { return &c.MeshName }, meshName)},
		{flag: "mesh-port", key: "mesh-ports", help: "Port of the mesh, name=number: gate=2380 and etcd=2379, etcd-peer=2381, check=2382 (TCP), vxlan=4789, vxlan-secure=4790, wireguard=51871 (UDP); the UDP ones and check are to be the same on all hosts",
			val: table(func(c *Config) *map[string]uint16 { return &c.MeshPorts }, meshPortFlag, meshPortMember)},
		{flag: "experimental", key: "experimental", help: "Report experimental features as enabled", val: boolean(func(c *Config) *bool { return &c.Experimental })},
		{flag: "feature", key: "features", reload: true, help: "Feature to report, name[=bool]", val: table(func(c *Config) *map[string]bool { return &c.Features }, featureFlag, featureMember)},

		// containerd and images.
		{flag: "containerd", key: "containerd", help: "containerd's socket (default: a running one, else a private child)", val: text(func(c *Config) *string { return &c.Containerd }, socketPath)},
		{flag: "containerd-namespace", key: "containerd-namespace", help: "Namespace in containerd", val: text(func(c *Config) *string { return &c.ContainerdNamespace }, namespace)},
		{flag: "registry-mirror", key: "registry-mirrors", reload: true, help: "Registry that is asked before the Docker Hub (URL)", val: list(func(c *Config) *[]string { return &c.RegistryMirrors }, mirror)},
		{flag: "insecure-registry", key: "insecure-registries", reload: true, help: "Registry without verified TLS, host[:port] or CIDR", val: list(func(c *Config) *[]string { return &c.InsecureRegistries }, insecure)},
		{flag: "max-concurrent-downloads", key: "max-concurrent-downloads", help: "Layers downloaded at once in one pull", val: number(func(c *Config) *int { return &c.MaxConcurrentDownloads }, 1, 1<<16)},
		{flag: "max-download-attempts", key: "max-download-attempts", help: "Tries per layer", val: number(func(c *Config) *int { return &c.MaxDownloadAttempts }, 1, 1<<16)},
		{flag: "http-proxy", key: "http-proxy", help: "Proxy for pulls over http (URL)", val: text(func(c *Config) *string { return &c.HTTPProxy }, proxy)},
		{flag: "https-proxy", key: "https-proxy", help: "Proxy for pulls over https (URL)", val: text(func(c *Config) *string { return &c.HTTPSProxy }, proxy)},
		{flag: "no-proxy", key: "no-proxy", help: "Hosts that are reached without the proxy, with commas", val: text(func(c *Config) *string { return &c.NoProxy }, nil)},

		// Containers.
		{flag: "default-runtime", key: "default-runtime", reload: true, help: "OCI runtime of containers that name none", val: text(func(c *Config) *string { return &c.DefaultRuntime }, nil)},
		{flag: "add-runtime", key: "runtimes", merges: true, help: "Additional OCI runtime, name=path", val: table(func(c *Config) *map[string]Runtime { return &c.Runtimes }, runtimeFlag, runtimeMember)},
		{flag: "default-ipc-mode", key: "default-ipc-mode", help: "IPC mode of containers: private or shareable", val: choice(func(c *Config) *string { return &c.DefaultIPCMode }, "private", "shareable")},
		{flag: "default-cgroupns-mode", key: "default-cgroupns-mode", help: "Cgroup namespace of containers: private or host (default: by the cgroup version)", val: choice(func(c *Config) *string { return &c.DefaultCgroupnsMode }, "private", "host")},
		{flag: "default-shm-size", key: "default-shm-size", help: "Size of /dev/shm", val: size(func(c *Config) *int64 { return &c.DefaultShmSize })},
		{flag: "default-ulimit", key: "default-ulimits", help: "Limit of containers that set none, name=soft[:hard]", val: table(func(c *Config) *map[string]*units.Ulimit { return &c.DefaultUlimits }, ulimitFlag, ulimitMember)},
		{flag: "cgroup-parent", key: "cgroup-parent", help: "Cgroup above the containers'", val: text(func(c *Config) *string { return &c.CgroupParent }, nil)},
		{flag: "seccomp-profile", key: "seccomp-profile", help: `Seccomp profile: builtin, unconfined, or a file`, val: text(func(c *Config) *string { return &c.SeccompProfile }, seccompProfile)},
		{flag: "no-new-privileges", key: "no-new-privileges", help: "Containers gain no privileges by setuid programs", val: boolean(func(c *Config) *bool { return &c.NoNewPrivileges })},

		{flag: "init", key: "init", reload: true, help: "Run an init as the first process of containers", val: boolean(func(c *Config) *bool { return &c.Init })},
		{flag: "init-path", key: "init-path", reload: true, old: []string{"default-init"}, help: "The init binary (default: Linkspan's own)", val: text(func(c *Config) *string { return &c.InitPath }, optionalPath)},
		{flag: "log-driver", key: "log-driver", reload: true, help: "Log driver of containers that name none: json-file, local or none", val: text(func(c *Config) *string { return &c.LogDriver }, logDriver)},
		{flag: "log-opt", key: "log-opts", reload: true, help: "Option of that log driver, key=value", val: table(func(c *Config) *map[string]string { return &c.LogOpts }, logOptFlag, logOptMember)},

		// The API over TCP.
		{flag: "tls", key: "tls", help: "TLS on TCP sockets (implied by --tlsverify)", val: boolean(func(c *Config) *bool { return &c.TLS })},
		{flag: "tlsverify", key: "tlsverify", help: "TLS on TCP sockets, and clients need a certificate of --tlscacert", val: boolean(func(c *Config) *bool { return &c.TLSVerify })},
		{flag: "tlscacert", key: "tlscacert", help: "CA of client certificates (default /etc/linkspan/ca.pem)", val: text(func(c *Config) *string { return &c.TLSCACert }, optionalPath)},
		{flag: "tlscert", key: "tlscert", help: "TLS certificate (default /etc/linkspan/cert.pem)", val: text(func(c *Config) *string { return &c.TLSCert }, optionalPath)},
		{flag: "tlskey", key: "tlskey", help: "TLS key (default /etc/linkspan/key.pem)", val: text(func(c *Config) *string { return &c.TLSKey }, optionalPath)},

		// The default network.
		{flag: "bridge", short: "b", key: "bridge", help: "Bridge of your own for the default network, which is never changed; none: no default network", val: text(func(c *Config) *string { return &c.Bridge }, bridgeName)},
		{flag: "mtu", key: "mtu", reload: true, help: "MTU of the default bridge, and of networks made later that name none", val: number(func(c *Config) *int { return &c.MTU }, 68, 65535)},
		{flag: "bip", key: "bip", reload: true, with: "bridge", help: "Address of the default bridge, such as 10.10.10.1/24", val: prefix(func(c *Config) *netip.Prefix { return &c.BIP }, bridgeAddress)},
		{flag: "fixed-cidr", key: "fixed-cidr", reload: true, with: "bridge", help: "Part of the default bridge's subnet that containers get addresses from", val: prefix(func(c *Config) *netip.Prefix { return &c.FixedCIDR }, subnet4)},
		{flag: "default-gateway", key: "default-gateway", reload: true, with: "bridge", help: "Gateway of the default bridge's containers (default: the bridge)", val: address(func(c *Config) *netip.Addr { return &c.DefaultGateway }, only4)},
		{flag: "ipv6", key: "ipv6", reload: true, with: "bridge", help: "IPv6 on the default bridge", val: boolean(func(c *Config) *bool { return &c.IPv6 })},
		{flag: "bip6", key: "bip6", reload: true, with: "bridge", help: "IPv6 address of the default bridge, such as fd00:10::1/64", val: prefix(func(c *Config) *netip.Prefix { return &c.BIP6 }, bridgeAddress6)},
		{flag: "fixed-cidr-v6", key: "fixed-cidr-v6", reload: true, with: "bridge", help: "IPv6 subnet of the default bridge, or with --bip6 the part of it that containers get addresses from", val: prefix(func(c *Config) *netip.Prefix { return &c.FixedCIDR6 }, subnet6)},
		{flag: "default-gateway-v6", key: "default-gateway-v6", reload: true, with: "bridge", help: "IPv6 gateway of the default bridge's containers (default: the bridge)", val: address(func(c *Config) *netip.Addr { return &c.DefaultGateway6 }, only6)},
		{flag: "icc", key: "icc", reload: true, help: "Containers of the default bridge reach each other", val: boolean(func(c *Config) *bool { return &c.ICC })},
		{flag: "ip-masq", key: "ip-masq", reload: true, help: "Hide what leaves the default bridge behind the host's address", val: boolean(func(c *Config) *bool { return &c.IPMasq })},
		{flag: "ip", key: "ip", reload: true, help: "Host address of published ports that name none (default: all)", val: address(func(c *Config) *netip.Addr { return &c.DefaultBindIP }, only4)},
		{flag: "dns", key: "dns", reload: true, help: "DNS server of containers", val: list(func(c *Config) *[]netip.Addr { return &c.DNS }, parseAddr)},
		{flag: "dns-opt", key: "dns-opts", reload: true, help: "Option of containers' resolv.conf", val: list(func(c *Config) *[]string { return &c.DNSOptions }, word)},
		{flag: "dns-search", key: "dns-search", reload: true, help: "Search domain of containers", val: list(func(c *Config) *[]string { return &c.DNSSearch }, domain)},
		{flag: "host-gateway-ip", key: "host-gateway-ips", reload: true, old: []string{"host-gateway-ip"}, help: "What host-gateway means in --add-host (default: the default bridge's addresses)",
			val: hostGateway(func(c *Config) *[]netip.Addr { return &c.HostGatewayIPs })},

		// All networks.
		{flag: "default-address-pool", key: "default-address-pools", reload: true, help: "Block that networks without a subnet are cut from, base=10.10.0.0/16,size=24", val: pools(func(c *Config) *[]AddressPool { return &c.AddressPools })},
		{flag: "default-network-opt", key: "default-network-opts", reload: true, help: "Option of new networks, driver=key=value", val: networkOpts(func(c *Config) *map[string]map[string]string { return &c.NetworkOpts })},
		{flag: "ip-forward", key: "ip-forward", reload: true, help: "Turn forwarding on where publishing needs it", val: boolean(func(c *Config) *bool { return &c.IPForward })},
		{flag: "allow-direct-routing", key: "allow-direct-routing", reload: true, help: "Let other hosts reach published ports on containers' own addresses", val: boolean(func(c *Config) *bool { return &c.AllowDirectRouting })},
		{flag: "bridge-accept-fwmark", key: "bridge-accept-fwmark", reload: true, help: "Let packets with this firewall mark in to containers, 0x1 or 0x1/0x3", val: fwmark(func(c *Config) *Mark { return &c.AcceptMark })},

		// Accepted; the note says what happens instead.
		{class: noted, flag: "userland-proxy", key: "userland-proxy", val: unused("bool"), same: []string{"false"}, help: "Publish through a proxy process",
			note: "published ports need no proxy process: nftables carries them, and the keeper what nftables cannot"},
		{class: noted, flag: "userland-proxy-path", key: "userland-proxy-path", val: unused("string"), help: "Proxy binary", note: "there is no proxy process"},
		{class: noted, flag: "live-restore", key: "live-restore", val: unused("bool"), same: []string{"true"}, help: "Keep containers alive while the daemon is down",
			note: "it is always on: containers, their connections and logs outlive the daemon"},
		{class: noted, flag: "iptables", key: "iptables", val: unused("bool"), same: []string{"true"}, help: "Add iptables rules",
			note: "Linkspan never touches iptables; publishing, masquerading and isolation live in its own nftables table, which stays"},
		{class: noted, flag: "ip6tables", key: "ip6tables", val: unused("bool"), same: []string{"true"}, help: "Add ip6tables rules",
			note: "Linkspan never touches ip6tables; its own nftables table serves both families"},
		{class: noted, flag: "firewall-backend", key: "firewall-backend", val: unused("string"), same: []string{"nftables"}, help: "Firewall backend",
			note: "Linkspan uses nftables, in a table of its own"},
		{class: noted, flag: "ip-forward-no-drop", key: "ip-forward-no-drop", val: unused("bool"), same: []string{"true"}, help: "Leave the FORWARD policy alone",
			note: "Linkspan never changes the FORWARD policy"},
		{class: noted, flag: "storage-driver", short: "s", key: "storage-driver", val: unused("string"), same: []string{"overlayfs", "overlay2"}, help: "Storage driver",
			note: "images and containers are kept by containerd, in its overlayfs snapshotter"},
		{class: noted, flag: "storage-opt", key: "storage-opts", val: unused("list"), help: "Storage driver option",
			note: "storage belongs to containerd; set its options in containerd's own configuration"},
		{class: noted, flag: "exec-opt", key: "exec-opts", val: unused("list"), same: []string{"native.cgroupdriver=cgroupfs", `["native.cgroupdriver=cgroupfs"]`}, help: "Runtime option",
			note: "cgroups are made by the runtime directly (cgroupfs)"},
		{class: noted, flag: "raw-logs", key: "raw-logs", val: unused("bool"), same: []string{"true"}, help: "Log without colours", note: "the log never has colours, and always has full timestamps"},
		{class: noted, flag: "max-concurrent-uploads", key: "max-concurrent-uploads", val: unused("int"), help: "Layers uploaded at once", note: "layers are uploaded as containerd's client does"},
		{class: noted, flag: "containerd-plugins-namespace", key: "containerd-plugin-namespace", val: unused("string"), help: "Namespace of managed plugins", note: "there are no managed plugins"},
		{class: noted, flag: "cri-containerd", key: "cri-containerd", val: unused("bool"), same: []string{"false"}, help: "containerd with CRI", note: "Linkspan's own containerd serves no CRI; give a containerd that does with --containerd"},
		{class: noted, flag: "swarm-default-advertise-addr", key: "swarm-default-advertise-addr", val: unused("string"), help: "Swarm address", note: swarmless},
		{class: noted, key: "swarm-raft-heartbeat-tick", val: unused("int"), same: []string{"0"}, note: swarmless},
		{class: noted, key: "swarm-raft-election-tick", val: unused("int"), same: []string{"0"}, note: swarmless},
		{class: noted, flag: "node-generic-resource", key: "node-generic-resources", val: unused("list"), help: "Swarm resource", note: swarmless},
		{class: noted, flag: "network-control-plane-mtu", key: "network-control-plane-mtu", val: unused("int"), help: "Swarm control plane MTU", note: swarmless},
		{class: noted, flag: "network-diagnostic-port", key: "network-diagnostic-port", val: unused("int"), same: []string{"0"}, help: "Port of swarm's diagnostic server", note: swarmless},
		{class: noted, flag: "restart", short: "r", val: unused("bool"), help: "Restart containers", note: "use a restart policy on docker run"},
		{class: noted, key: "builder", val: unused("map"), note: "building images belongs to later work"},
		{class: noted, key: "deprecated-key-path", val: unused("string"), note: "the daemon has no such key"},
		{class: noted, key: "allow-nondistributable-artifacts", val: unused("list"), note: "such layers are pushed like any other"},

		// Refused.
		{class: refused, flag: "userns-remap", key: "userns-remap", val: unused("string"), help: "User namespace of containers", note: "user namespaces belong to later work"},
		{class: refused, flag: "rootless", key: "rootless", val: unused("bool"), same: []string{"false"}, help: "Run without root", note: "rootless mode belongs to later work"},
		{class: refused, flag: "selinux-enabled", key: "selinux-enabled", val: unused("bool"), same: []string{"false"}, help: "SELinux labels", note: "SELinux labels belong to later work"},
		{class: refused, flag: "authorization-plugin", key: "authorization-plugins", val: unused("list"), help: "Authorization plugin", note: "authorization plugins belong to later work, and running without one that was asked for would be unsafe"},
		{class: refused, flag: "cpu-rt-period", key: "cpu-rt-period", val: unused("int"), same: []string{"0"}, help: "Real-time CPU period", note: "real-time CPU limits of all containers belong to later work"},
		{class: refused, flag: "cpu-rt-runtime", key: "cpu-rt-runtime", val: unused("int"), same: []string{"0"}, help: "Real-time CPU time", note: "real-time CPU limits of all containers belong to later work"},
		{class: refused, flag: "cdi-spec-dir", key: "cdi-spec-dirs", val: unused("list"), help: "Directory of CDI devices", note: "CDI devices belong to later work"},
		{class: refused, flag: "nri-opts", key: "nri-opts", val: unused("any"), help: "Node Resource Interface", note: "the Node Resource Interface belongs to later work"},
		{class: refused, flag: "cluster-store", key: "cluster-store", val: unused("string"), help: "Key-value store of networks that span hosts", note: swarmless},
		{class: refused, flag: "cluster-advertise", key: "cluster-advertise", val: unused("string"), help: "This host's address for the others", note: swarmless},
		{class: refused, flag: "cluster-store-opt", key: "cluster-store-opts", val: unused("map"), help: "Key-value store option", note: swarmless},
		{class: refused, flag: "api-cors-header", key: "api-cors-header", val: unused("string"), help: "CORS header of the API", note: "CORS headers are the job of a reverse proxy in front of the socket"},
	}
}
