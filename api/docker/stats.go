package docker

import (
	"errors"
	"net/http"
	"time"

	"linkspan/cnm"

	apicontainer "github.com/moby/moby/api/types/container"
)

// cadence is how far apart the samples of a stream are, as dockerd's.
const cadence = time.Second

// containerStats answers `docker stats`. Who computes a percentage needs two
// samples: each carries the one before it, and a single one (stream=0) is
// preceded by a first that nobody sees, unless one-shot asks for it at once.
func (s *server) containerStats(c *call) error {
	stream, once := c.BoolOr("stream", true), c.Bool("one-shot")
	if stream && once {
		return cnm.Invalid("cannot have stream=true and one-shot=true")
	}
	ctr, err := s.Containers.Get(c.Vars["id"])
	if err != nil {
		return err
	}
	ctx, cancel := c.Streaming()
	defer cancel()
	var before *apicontainer.StatsResponse
	// One that does not run has no second sample worth waiting for.
	seen := stream || once || !running(ctr.State.Phase)
	beat := time.NewTicker(cadence)
	defer beat.Stop()
	for {
		st, err := s.Containers.Stats(ctx, ctr.ID)
		if errors.Is(err, cnm.ErrNotFound) && c.w.started() {
			return nil // the container is gone, and its stream ends
		}
		if err != nil {
			return err
		}
		if st.ID == "" {
			st.ID, st.Name = ctr.ID, "/"+ctr.Name
		}
		if before != nil {
			st.PreCPUStats, st.PreRead = before.CPUStats, before.Read
		}
		before = st
		if seen {
			if !c.w.started() {
				c.Header().Set("Content-Type", "application/json")
				c.w.WriteHeader(http.StatusOK)
			}
			if err := c.Encode(st); err != nil {
				return nil // the reader went
			}
			c.Flush()
		}
		if seen && !stream {
			return nil
		}
		seen = true
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}
