package compat

// endpoint is one line of the API as the reference of version 1.51 lists it, and
// a request that must succeed where the endpoint works. Requests are made in this
// order: later ones use what earlier ones made.
type endpoint struct {
	method, pattern string
	// path is the request; empty: the pattern. %net and %exec stand for ids that
	// came up before.
	path, body string
	// note is told beside a success.
	note string
}

// section is a heading of the page.
type section struct {
	title     string
	endpoints []endpoint
}

// create is the body of a container that sleeps.
const create = `{"Image":"busybox","Cmd":["sleep","600"],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8080"}]}},"StopTimeout":1}`

var sections = []section{
	{"System", []endpoint{
		{"GET", "/_ping", "", "", ""},
		{"HEAD", "/_ping", "", "", ""},
		{"GET", "/version", "", "", ""},
		{"GET", "/info", "", "", ""},
		{"GET", "/events", "/events?since=0&until=1", "", "filters as in dockerd; the last 1,024 events are kept"},
		{"GET", "/system/df", "", "", "no build cache"},
		{"POST", "/auth", "", `{"username":"u","password":"p","serveraddress":"127.0.0.1:5000"}`, ""},
		{"POST", "/session", "", "", ""},
		{"POST", "/grpc", "", "", ""},
	}},
	{"Images", []endpoint{
		{"POST", "/images/create", "/images/create?fromImage=busybox&tag=latest", "", "pull (one tag) and import"},
		{"GET", "/images/json", "", "", ""},
		{"GET", "/images/{name}/json", "/images/busybox/json", "", ""},
		{"GET", "/images/{name}/history", "/images/busybox/history", "", ""},
		{"POST", "/images/{name}/tag", "/images/busybox/tag?repo=127.0.0.1:5001/mine&tag=1", "", ""},
		{"POST", "/images/{name}/push", "/images/127.0.0.1:5001/mine/push?tag=1", "", "one tag, or all of a repository"},
		{"GET", "/images/get", "/images/get?names=busybox&names=127.0.0.1:5001/mine:1", "", "one platform"},
		{"GET", "/images/{name}/get", "/images/busybox/get", "", ""},
		{"POST", "/images/load", "", "a tar of /images/busybox/get", ""},
		{"DELETE", "/images/{name}", "/images/127.0.0.1:5001/mine:1", "", ""},
		{"GET", "/images/search", "/images/search?term=nginx", "", ""},
		{"GET", "/distribution/{name}/json", "/distribution/busybox/json", "", ""},
		{"POST", "/build", "", "", ""},
		{"POST", "/build/cancel", "/build/cancel?id=x", "", ""},
		{"POST", "/build/prune", "", "", "nothing is ever cached"},
	}},
	{"Containers", []endpoint{
		{"POST", "/containers/create", "/containers/create?name=web", create, ""},
		{"GET", "/containers/json", "/containers/json?all=1&size=1", "", "every filter of dockerd's"},
		{"GET", "/containers/{id}/json", "/containers/web/json?size=1", "", ""},
		{"POST", "/containers/{id}/start", "/containers/web/start", "", ""},
		{"GET", "/containers/{id}/top", "/containers/web/top", "", ""},
		{"GET", "/containers/{id}/stats", "/containers/web/stats?stream=0", "", ""},
		{"GET", "/containers/{id}/logs", "/containers/web/logs?stdout=1", "", ""},
		{"GET", "/containers/{id}/changes", "/containers/web/changes", "", ""},
		{"GET", "/containers/{id}/export", "/containers/web/export", "", ""},
		{"POST", "/containers/{id}/resize", "/containers/tty/resize?h=24&w=80", "", ""},
		{"POST", "/containers/{id}/attach", "/containers/web/attach?stream=1&stdout=1", "", "goes on while the daemon restarts; over TLS it ends with the daemon's process"},
		{"GET", "/containers/{id}/attach/ws", "/containers/web/attach/ws?stream=1&stdout=1", "", ""},
		{"POST", "/containers/{id}/pause", "/containers/web/pause", "", ""},
		{"POST", "/containers/{id}/unpause", "/containers/web/unpause", "", ""},
		{"POST", "/containers/{id}/update", "/containers/web/update", `{"Memory":67108864,"MemorySwap":67108864,"RestartPolicy":{"Name":"no"}}`, ""},
		{"POST", "/containers/{id}/exec", "/containers/web/exec", `{"Cmd":["sleep","5"],"AttachStdout":true}`, ""},
		{"GET", "/exec/{id}/json", "/exec/%exec/json", "", ""},
		{"POST", "/exec/{id}/start", "/exec/%exec/start", `{"Detach":true}`, ""},
		{"POST", "/exec/{id}/resize", "/exec/%ttyexec/resize?h=24&w=80", "", ""},
		{"HEAD", "/containers/{id}/archive", "/containers/web/archive?path=/etc/passwd", "", ""},
		{"GET", "/containers/{id}/archive", "/containers/web/archive?path=/etc/passwd", "", ""},
		{"PUT", "/containers/{id}/archive", "/containers/web/archive?path=/tmp", "a tar of /etc/passwd", ""},
		{"POST", "/commit", "/commit?container=web&repo=committed&tag=1", "", ""},
		{"GET", "/containers/{id}/checkpoints", "/containers/web/checkpoints", "", ""},
		{"POST", "/containers/{id}/checkpoints", "/containers/web/checkpoints", "", ""},
		{"DELETE", "/containers/{id}/checkpoints/{checkpoint}", "/containers/web/checkpoints/x", "", ""},
		{"POST", "/containers/{id}/rename", "/containers/web/rename?name=shop", "", ""},
		{"POST", "/containers/{id}/kill", "/containers/shop/kill", "", ""},
		{"POST", "/containers/{id}/wait", "/containers/shop/wait", "", ""},
		{"POST", "/containers/{id}/restart", "/containers/shop/restart?t=0", "", ""},
		{"POST", "/containers/{id}/stop", "/containers/shop/stop?t=0", "", ""},
		{"DELETE", "/containers/{id}", "/containers/shop?v=1", "", "with link=1 the link (web/db) alone"},
		{"POST", "/containers/prune", "", "", ""},
		{"POST", "/images/prune", "", "", ""},
	}},
	{"Networks", []endpoint{
		{"POST", "/networks/create", "", `{"Name":"shopnet","Driver":"bridge","EnableIPv6":true}`, "options below"},
		{"GET", "/networks", "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D", "", ""},
		{"GET", "/networks/{id}", "/networks/shopnet?verbose=1", "", "no Status: that came with API 1.52"},
		{"POST", "/networks/{id}/connect", "/networks/shopnet/connect", `{"Container":"member","EndpointConfig":{"Aliases":["a"],"GwPriority":1}}`, "MacAddress counts since API 1.44"},
		{"POST", "/networks/{id}/disconnect", "/networks/shopnet/disconnect", `{"Container":"member"}`, ""},
		{"DELETE", "/networks/{id}", "/networks/shopnet", "", "`?force=1`, Linkspan's own, takes containers off it first"},
		{"POST", "/networks/prune", "", "", ""},
	}},
	{"Volumes", []endpoint{
		{"POST", "/volumes/create", "", `{"Name":"kept"}`, "the driver local, with its options type, o and device"},
		{"GET", "/volumes", "", "", ""},
		{"GET", "/volumes/{name}", "/volumes/kept", "", ""},
		{"PUT", "/volumes/{name}", "/volumes/kept?version=1", "{}", ""},
		{"DELETE", "/volumes/{name}", "/volumes/kept", "", ""},
		{"POST", "/volumes/prune", "", "", ""},
	}},
	{"Plugins", []endpoint{
		{"GET", "/plugins", "", "", "none"},
		{"GET", "/plugins/privileges", "/plugins/privileges?remote=x", "", ""},
		{"POST", "/plugins/pull", "/plugins/pull?remote=x", "[]", ""},
		{"GET", "/plugins/{name}/json", "/plugins/x/json", "", ""},
		{"DELETE", "/plugins/{name}", "/plugins/x", "", ""},
		{"POST", "/plugins/{name}/enable", "/plugins/x/enable", "", ""},
		{"POST", "/plugins/{name}/disable", "/plugins/x/disable", "", ""},
		{"POST", "/plugins/{name}/upgrade", "/plugins/x/upgrade?remote=x", "[]", ""},
		{"POST", "/plugins/create", "/plugins/create?name=x", "", ""},
		{"POST", "/plugins/{name}/push", "/plugins/x/push", "", ""},
		{"POST", "/plugins/{name}/set", "/plugins/x/set", "[]", ""},
	}},
	{"Swarm", []endpoint{
		{"GET", "/swarm", "", "", ""},
		{"POST", "/swarm/init", "", "{}", ""},
		{"POST", "/swarm/join", "", "{}", ""},
		{"POST", "/swarm/leave", "", "", ""},
		{"POST", "/swarm/update", "/swarm/update?version=1", "{}", ""},
		{"GET", "/swarm/unlockkey", "", "", ""},
		{"POST", "/swarm/unlock", "", "{}", ""},
		{"GET", "/nodes", "", "", ""},
		{"GET", "/nodes/{id}", "/nodes/x", "", ""},
		{"DELETE", "/nodes/{id}", "/nodes/x", "", ""},
		{"POST", "/nodes/{id}/update", "/nodes/x/update?version=1", "{}", ""},
		{"GET", "/services", "", "", ""},
		{"POST", "/services/create", "", "{}", ""},
		{"GET", "/services/{id}", "/services/x", "", ""},
		{"DELETE", "/services/{id}", "/services/x", "", ""},
		{"POST", "/services/{id}/update", "/services/x/update?version=1", "{}", ""},
		{"GET", "/services/{id}/logs", "/services/x/logs?stdout=1", "", ""},
		{"GET", "/tasks", "", "", ""},
		{"GET", "/tasks/{id}", "/tasks/x", "", ""},
		{"GET", "/tasks/{id}/logs", "/tasks/x/logs?stdout=1", "", ""},
		{"GET", "/secrets", "", "", ""},
		{"POST", "/secrets/create", "", "{}", ""},
		{"GET", "/secrets/{id}", "/secrets/x", "", ""},
		{"DELETE", "/secrets/{id}", "/secrets/x", "", ""},
		{"POST", "/secrets/{id}/update", "/secrets/x/update?version=1", "{}", ""},
		{"GET", "/configs", "", "", ""},
		{"POST", "/configs/create", "", "{}", ""},
		{"GET", "/configs/{id}", "/configs/x", "", ""},
		{"DELETE", "/configs/{id}", "/configs/x", "", ""},
		{"POST", "/configs/{id}/update", "/configs/x/update?version=1", "{}", ""},
	}},
}
