package faults

// stateFaults are those of containers that do not run.
func stateFaults() []fault {
	const serve = "docker rm -f xav; run xav --network n"
	return []fault{
		{name: "paused", broken: "docker pause bob", undo: "docker unpause bob", a: "ann", b: "bob:80",
			code: "paused", says: []string{"bob"}, cure: []string{"unpause bob"}},
		{name: "paused, published", broken: "docker pause bob", undo: "docker unpause bob", a: "outside", b: "$H:8080",
			code: "paused", says: []string{"bob"}, cure: []string{"unpause bob"}},
		{name: "stopped", setup: "run xav --network n", broken: "docker stop -t 0 xav", a: "ann", b: "xav:80",
			code: "not-running", says: []string{"xav"}, cure: []string{"start xav"}},
		{name: "stopped, published", setup: "run xav --network n -p 8094:80", broken: "docker stop -t 0 xav", a: "outside", b: "$H:8094",
			code: "not-running", says: []string{"xav"}, cure: []string{"start xav"}},
		{name: "stopped, who asks", setup: "run xav --network n", broken: "docker stop -t 0 xav", a: "xav", b: "bob:80",
			code: "not-running", says: []string{"xav"}, cure: []string{"start xav"}},
		{name: "never started", setup: "docker create --name xav --network n " + server + "", a: "ann", b: "xav:80",
			code: "not-running", says: []string{"xav"}, cure: []string{"start xav"}},
		{name: "crashed", setup: "make xav --network n netprobe serve tcp/192.0.2.1:80; docker wait xav", a: "ann", b: "xav:80",
			code: "not-running", says: []string{"xav", "5"}, byHand: serve},
		{name: "restarting", setup: "make xav --network n --restart always netprobe serve tcp/192.0.2.1:80", a: "ann", b: "xav:80",
			// Between two crashes it runs for a moment.
			code: "not-running|not-listening", says: []string{"xav"}, byHand: serve},
	}
}
