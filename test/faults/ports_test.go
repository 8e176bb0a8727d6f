package faults

// portFaults are those of who listens, and of what is published where.
func portFaults() []fault {
	const serve = "docker rm -f xav; run xav --network n"
	const other = "ip addr add 192.168.99.32/24 dev wan0"
	const noOther = "ip addr del 192.168.99.32/24 dev wan0"
	return []fault{
		{name: "on 127.0.0.1", setup: "make xav --network n netprobe serve tcp/127.0.0.1:80; serves xav", a: "ann", b: "xav:80",
			code: "listens-on-loopback", says: []string{"127.0.0.1", "80"}, byHand: serve},
		{name: "on 127.0.0.1, published", setup: "make xav --network n -p 8093:80 netprobe serve tcp/127.0.0.1:80; serves xav", a: "outside", b: "$H:8093",
			code: "listens-on-loopback", says: []string{"127.0.0.1", "80"}, byHand: "docker rm -f xav; run xav --network n -p 8093:80"},
		{name: "on ::1", setup: "make xav --network six netprobe serve tcp/[::1]:80; serves xav", a: "hal", b: "xav:80",
			code: "listens-on-loopback", says: []string{"::1"}, byHand: "docker rm -f xav; run xav --network six"},
		{name: "nobody", setup: "make xav --network n pause", a: "ann", b: "xav:80",
			code: "not-listening", says: []string{"xav", "80"}, byHand: serve},
		{name: "nobody, published", setup: "make xav --network n -p 8093:80 pause", a: "outside", b: "$H:8093",
			code: "not-listening", says: []string{"xav", "80"}, cure: []string{"logs xav"}, byHand: "docker rm -f xav; run xav --network n -p 8093:80"},
		{name: "nobody on the host", a: "ann", b: "$H:9999", code: "not-listening", says: []string{"9999"},
			byHand: "docker run -d --name xav -p 9999:80 " + server + "; serves xav"},
		{name: "another port", setup: "make xav --network n netprobe serve tcp/:8080; serves xav", a: "ann", b: "xav:80", tryCured: "tcp/xav:8080",
			code: "listens-elsewhere", says: []string{"8080"}, byHand: "true"},
		{name: "the published port, inside", a: "ann", b: "bob:8080", tryCured: "tcp/bob:80",
			code: "listens-elsewhere", says: []string{"80"}, byHand: "true"},
		{name: "udp, asked by tcp", setup: "make xav --network n netprobe serve udp/:80 tcp/:1; serves xav", a: "ann", b: "xav:80", tryCured: "udp/xav:80",
			code: "listens-elsewhere", says: []string{"udp"}, byHand: "true"},
		{name: "tcp, asked by udp", setup: "make xav --network n netprobe serve tcp/:80; serves xav", a: "ann", b: "xav:80/udp", tryCured: "tcp/xav:80",
			code: "listens-elsewhere", says: []string{"tcp"}, byHand: "true"},
		{name: "sctp, which nobody speaks", a: "ann", b: "bob:80/sctp", tryCured: "tcp/bob:80",
			code: "listens-elsewhere", says: []string{"tcp"}, byHand: "true"},
		{name: "IPv4 only", setup: "make xav --network six --ip 10.76.0.77 netprobe serve tcp/10.76.0.77:80; serves xav",
			a: "hal", b: "[$ip6_xav]:80", tryCured: "tcp/$ip_xav:80", code: "listens-elsewhere", says: []string{"10.76.0.77"}, byHand: "true"},
		{name: "on another address of its own", setup: "make xav --network n --ip 10.71.0.77 netprobe serve tcp/127.0.0.2:80; serves xav", a: "ann", b: "xav:80",
			code: "listens-on-loopback", says: []string{"127.0.0.2"}, byHand: serve},
		{name: "stopped process", broken: "kill -STOP $(pid bob)", undo: "kill -CONT $(pid bob)", a: "ann", b: "bob:80",
			code: "not-accepting", says: []string{"bob"}, cure: []string{"kill -CONT"}},
		// somaxconn is the longest queue that listen(2) may ask for.
		{name: "queue full", setup: "run xav --network n --sysctl net.core.somaxconn=1", a: "ann", b: "xav:80",
			broken: "kill -STOP $(pid xav); for i in 1 2 3 4; do inside ann $PROBE dial -timeout 50ms tcp/$ip_xav:80 || :; done", undo: "kill -CONT $(pid xav)",
			code: "not-accepting", says: []string{"xav"}, cure: []string{"kill -CONT"}},
		{name: "published on another address", setup: other + "; run xav --network n -p 192.168.99.32:8090:80", undo: noOther,
			a: "outside", b: "$H:8090", tryCured: "tcp/192.168.99.32:8090",
			code: "published-elsewhere", says: []string{"192.168.99.32"}, byHand: "true"},
		{name: "published on 127.0.0.1", a: "outside", b: "$H:8081", tryCured: "tcp/$H:8080",
			code: "published-elsewhere", says: []string{"127.0.0.1"}, byHand: "true"},
		{name: "published on 127.0.0.1, for a container", a: "cat", b: "$H:8081", tryCured: "tcp/$H:8080",
			code: "published-elsewhere", says: []string{"127.0.0.1"}, byHand: "true"},
		{name: "published for udp", setup: "run xav --network n -p 8091:80/udp", a: "outside", b: "$H:8091", tryCured: "udp/$H:8091",
			code: "published-elsewhere|listens-elsewhere", says: []string{"udp"}, byHand: "true"},
		{name: "the address it is published on is gone", setup: other + "; run xav --network n -p 192.168.99.32:8090:80", broken: noOther, undo: noOther,
			a: "outside", b: "192.168.99.32:8090", code: "address-missing|no-route", says: []string{"192.168.99.32"}, byHand: other},
		{name: "the host's number for the container's", a: "outside", b: "$H:80", tryCured: "tcp/$H:8080",
			code: "listens-elsewhere|published-elsewhere", says: []string{"80"}, byHand: "true"},
		{name: "127.0.0.1 is not the host", a: "ann", b: "127.0.0.1:8081", tryCured: "tcp/$H:8080",
			code: "not-listening|listens-elsewhere", says: []string{"ann"}, byHand: "true"},
		{name: "on the host's 127.0.0.1", setup: "$PROBE serve tcp/127.0.0.1:8123 </dev/null >/dev/null 2>&1 & echo $! >$PIDFILE; takes 8123",
			undo: "kill $(cat $PIDFILE); rm $PIDFILE", a: "ann", b: "10.71.0.1:8123", tryCured: "tcp/10.71.0.1:90",
			code: "listens-on-loopback", says: []string{"127.0.0.1"}, byHand: "true"},
		{name: "held by a process", a: "outside", b: "xav:80", try: "tcp/$H:8092",
			setup: `socat TCP-LISTEN:8092,fork,reuseaddr SYSTEM:true </dev/null >/dev/null 2>&1 & echo $! >$PIDFILE
				takes 8092
				make xav --network n -p 8092:80 ` + server + ` 2>/dev/null || :`,
			undo: "kill $(cat $PIDFILE); rm $PIDFILE", code: "port-taken", says: []string{"socat", "8092"}},
	}
}
