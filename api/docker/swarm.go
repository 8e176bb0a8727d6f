package docker

import (
	"net/http"

	"linkspan/cnm"

	"github.com/moby/moby/api/types/common"
)

// swarmRoutes are what a dockerd that is in no swarm answers, in its words:
// clients ask and go on.
func (s *server) swarmRoutes() []route {
	// Not errors: nothing is wrong here, and nothing is worth a line in the log.
	unavailable := func(c *call, words string) error {
		return c.JSON(http.StatusServiceUnavailable, common.ErrorResponse{Message: words})
	}
	notManager := func(c *call) error {
		return unavailable(c, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	}
	notMember := func(c *call) error {
		return unavailable(c, "This node is not part of a swarm")
	}
	noSwarm := func(*call) error {
		return cnm.Unsupported("not yet: Linkspan does not speak Docker's swarm protocol; its own networks over several hosts need none: `linkspan mesh init`, and then networks with -d overlay or -d routed")
	}
	routes := []route{
		get("/swarm", notManager),
		get("/swarm/unlockkey", notManager),
		post("/swarm/update", notManager),
		post("/swarm/unlock", notMember),
		post("/swarm/leave", notMember),
		post("/swarm/init", noSwarm),
		post("/swarm/join", noSwarm),
	}
	for _, kind := range []string{"services", "nodes", "tasks", "secrets", "configs"} {
		routes = append(routes,
			get("/"+kind, notManager),
			get("/"+kind+"/{id}", notManager),
			get("/"+kind+"/{id}/logs", notManager),
			del("/"+kind+"/{id}", notManager),
			post("/"+kind+"/create", notManager),
			post("/"+kind+"/{id}/update", notManager),
		)
	}
	return append(routes,
		get("/plugins", s.pluginList),
		get("/plugins/{name...}/json", s.pluginInspect),
	)
}

// pluginList: managed plugins (containers of their own) are not run.
func (s *server) pluginList(c *call) error { return c.JSON(http.StatusOK, []struct{}{}) }

func (s *server) pluginInspect(c *call) error {
	return cnm.NotFound("plugin %q not found", c.Vars["name"])
}
