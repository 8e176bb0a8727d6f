package images

// defaultPath is what every official image sets.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// perl is what Debian's maintainer scripts and service wrappers want; our
// entrypoints call the servers themselves.
var perl = []string{"perl", "perl-modules-*", "libperl5*", "lib*-perl", "libgdbm*"}

// Layers is the catalogue of layers. Every server is one layer on the one
// base, so that a host unpacks the base once.
func Layers() []Layer {
	return []Layer{
		{
			Name: "base", Base: true,
			// ip and ping are here and not in the tools image alone: the tour
			// looks at interfaces from inside each server.
			Packages: []string{"iproute2", "iputils-ping"},
		},
		{
			Name: "mysql", From: "base",
			Packages: []string{"mariadb-server-core", "mariadb-client-core", "mariadb-client", "mariadb-common"},
			Without:  perl,
		},
		{
			Name: "postgres", From: "base",
			Packages: []string{"postgresql"},
			Without: append([]string{
				"postgresql", "postgresql-common", "postgresql-client-common", "ssl-cert", "openssl",
				"libllvm*", "libz3-*", "locales", "locales-all", "libc-l10n", "ucf", "sensible-utils", "netbase",
			}, perl...),
		},
		{
			Name: "redis", From: "base",
			Packages: []string{"redis-server", "redis-tools"},
		},
		{
			Name: "nginx", From: "base",
			Packages: []string{"nginx", "curl"},
		},
		{
			Name: "php", From: "base",
			Packages: []string{"php-fpm", "php-cli", "php-mysql", "adminer"},
			Without: append([]string{
				"systemd", "libsystemd-shared", "dmsetup", "libdevmapper*", "libcryptsetup*", "libkmod*",
				"libip4tc*", "libfdisk*", "ucf", "sensible-utils", "libmagic*",
			}, perl...),
		},
		{
			Name: "apache", From: "base",
			Packages: []string{"apache2"},
			Without:  append([]string{"apache2-utils"}, perl...),
		},
		{
			Name: "centos", From: "base",
			Packages: []string{
				"curl", "bind9-dnsutils", "netcat-openbsd", "socat", "net-tools", "iperf3", "tcpdump",
				"procps", "traceroute", "iptables", "nftables", "conntrack", "ethtool", "bridge-utils",
			},
			Without: perl,
		},
		{
			Name: "python-web", From: "base",
			Packages: []string{"python3-flask", "python3-redis", "python3-pymysql"},
			Without:  append([]string{"libjs-*", "javascript-common", "python3-pkg-resources", "python3-pyinotify", "media-types"}, perl...),
		},
		{
			Name: "busybox", Packages: []string{"busybox-static"},
			Shell:    []string{"/bin/busybox", "sh"},
			Programs: map[string]string{"/bin/netprobe": "netprobe"},
		},
		{
			Name:     "pause",
			Programs: map[string]string{"/pause": "pause"},
		},
		{
			Name:     "netprobe",
			Programs: map[string]string{"/netprobe": "netprobe"},
		},
	}
}

// Images is the catalogue of images. The old version tags exist because people's
// command lines carry them: what they name is the one version that Debian has.
func Images() []Image {
	env := []string{defaultPath}
	return []Image{
		{
			Name: "mysql", Tags: []string{"latest", "5.7", "8"}, Layers: []string{"base", "mysql"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("3306/tcp", "33060/tcp"),
				Entrypoint:   []string{"docker-entrypoint.sh"},
				Cmd:          []string{"mysqld"},
				Volumes:      set("/var/lib/mysql"),
			},
		},
		{
			// For compose files that say what it is.
			Name: "mariadb", Tags: []string{"latest"}, Layers: []string{"base", "mysql"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("3306/tcp"),
				Entrypoint:   []string{"docker-entrypoint.sh"},
				Cmd:          []string{"mysqld"},
				Volumes:      set("/var/lib/mysql"),
			},
		},
		{
			Name: "postgres", Tags: []string{"latest", "9.4"}, Layers: []string{"base", "postgres"},
			Config: RunConfig{
				Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/bin", "LANG=C.UTF-8", "PGDATA=/var/lib/postgresql/data"},
				ExposedPorts: set("5432/tcp"),
				Entrypoint:   []string{"docker-entrypoint.sh"},
				Cmd:          []string{"postgres"},
				Volumes:      set("/var/lib/postgresql/data"),
				// Fast shutdown: SIGTERM would wait for every client to leave.
				StopSignal: "SIGINT",
			},
		},
		{
			Name: "redis", Tags: []string{"latest"}, Layers: []string{"base", "redis"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("6379/tcp"),
				Entrypoint:   []string{"docker-entrypoint.sh"},
				Cmd:          []string{"redis-server"},
				Volumes:      set("/data"),
				WorkingDir:   "/data",
			},
		},
		{
			Name: "python-web", Tags: []string{"v1.0", "latest"}, Layers: []string{"base", "python-web"},
			Config: RunConfig{
				Env:          append([]string{"PYTHONUNBUFFERED=1"}, env...),
				ExposedPorts: set("80/tcp"),
				Cmd:          []string{"python", "/app.py"},
				// As pid 1 python has a handler for SIGINT alone.
				StopSignal: "SIGINT",
			},
		},
		{
			Name: "nginx", Tags: []string{"latest"}, Layers: []string{"base", "nginx"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("80/tcp"),
				Entrypoint:   []string{"/docker-entrypoint.sh"},
				Cmd:          []string{"nginx", "-g", "daemon off;"},
				// nginx(8): SIGQUIT finishes the requests in flight.
				StopSignal: "SIGQUIT",
			},
		},
		{
			Name: "php-fpm", Tags: []string{"latest"}, Layers: []string{"base", "php"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("9000/tcp"),
				Cmd:          []string{"php-fpm"},
				WorkingDir:   "/var/www/html",
				StopSignal:   "SIGQUIT",
			},
		},
		{
			Name: "apache", Tags: []string{"latest"}, Layers: []string{"base", "apache"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("80/tcp"),
				Cmd:          []string{"httpd-foreground"},
				// apache2(8): SIGWINCH is the graceful stop.
				StopSignal: "SIGWINCH",
			},
		},
		{
			Name: "adminer", Tags: []string{"latest"}, Layers: []string{"base", "php"},
			Config: RunConfig{
				Env:          env,
				ExposedPorts: set("8080/tcp"),
				Entrypoint:   []string{"entrypoint.sh"},
				Cmd:          []string{"php", "-S", "[::]:8080", "-t", "/var/www/adminer"},
				WorkingDir:   "/var/www/adminer",
				// As pid 1 php has a handler for SIGINT alone.
				StopSignal: "SIGINT",
			},
		},
		{
			Name: "centos", Tags: []string{"latest", "7"}, Layers: []string{"base", "centos"},
			Config: RunConfig{Env: env, Cmd: []string{"/bin/bash"}},
		},
		{
			Name: "busybox", Tags: []string{"latest"}, Layers: []string{"busybox"},
			Config: RunConfig{Env: env, Cmd: []string{"sh"}},
		},
		{
			Name: "pause", Tags: []string{"latest"}, Layers: []string{"pause"},
			Config: RunConfig{Env: env, Entrypoint: []string{"/pause"}},
		},
		{
			Name: "netprobe", Tags: []string{"latest"}, Layers: []string{"netprobe"},
			Config: RunConfig{Env: env, Entrypoint: []string{"/netprobe"}, Cmd: []string{"serve", "tcp/:9000", "udp/:9000"}},
		},
	}
}
