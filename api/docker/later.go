package docker

import (
	"net/http"

	"linkspan/cnm"
)

// laterRoutes are known wishes that are not granted yet. Each says what was
// asked for and why it is refused, so that nothing fails silently.
func (s *server) laterRoutes() []route {
	later := func(why string) handler {
		return func(*call) error { return cnm.Unsupported("not yet: %s", why) }
	}
	// of refuses something about a container, which must exist to be refused.
	of := func(why string) handler {
		return func(c *call) error {
			ctr, err := s.Containers.Get(c.Vars["id"])
			if err != nil {
				return err
			}
			return cnm.Unsupported("not yet: %s (container %s)", why, ctr.Name)
		}
	}
	build := later("building images: BuildKit is not embedded yet; build elsewhere, then `docker load` or `docker pull` the image")
	plugins := later("managed plugins are not run; network and IPAM plugins come as programs of their own in a later version")
	return []route{
		get("/containers/{id}/attach/ws", of("attach over a websocket is not spoken; use POST /containers/{id}/attach")),
		get("/containers/{id}/checkpoints", of("checkpoints (CRIU) are not made yet")),
		post("/containers/{id}/checkpoints", of("checkpoints (CRIU) are not made yet")),
		del("/containers/{id}/checkpoints/{name}", of("checkpoints (CRIU) are not made yet")),
		del("/containers/{id...}", s.containerRemove), // a link's name has two parts
		post("/build", build),
		post("/build/cancel", build),
		post("/session", build),
		post("/grpc", build),
		post("/build/prune", s.buildPrune),
		post("/plugins/pull", plugins),
		get("/plugins/privileges", plugins),
		post("/plugins/create", plugins),
		post("/plugins/{name...}/enable", plugins),
		post("/plugins/{name...}/disable", plugins),
		post("/plugins/{name...}/upgrade", plugins),
		post("/plugins/{name...}/push", plugins),
		post("/plugins/{name...}/set", plugins),
		del("/plugins/{name...}", plugins),
	}
}

// buildPrune: without a builder the cache is empty, and pruning it is done.
func (s *server) buildPrune(c *call) error {
	return c.JSON(http.StatusOK, struct {
		CachesDeleted  []string
		SpaceReclaimed uint64
	}{[]string{}, 0})
}
