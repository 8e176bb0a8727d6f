package docker

import (
	"net/http"
	"strings"

	"linkspan/cnm"
	"linkspan/container"

	apitypes "github.com/moby/moby/api/types"
)

// containerAttach hands the client's connection to the container's streams. The
// checks come first: after the 101 no error can be told.
func (s *server) containerAttach(c *call) error {
	if err := checkDetachKeys(c.Query("detachKeys")); err != nil {
		return err
	}
	ctr, err := s.Containers.CanAttach(c.Vars["id"])
	if err != nil {
		return err
	}
	o := container.AttachOptions{
		Stdin: c.Bool("stdin"), Stdout: c.Bool("stdout"), Stderr: c.Bool("stderr"),
		Stream: c.Bool("stream"), Logs: c.Bool("logs"),
		DetachKeys: c.Query("detachKeys"), Mux: !ctr.Config.Tty,
	}
	handedOver := s.handovers.begin(ctr.ID)
	defer handedOver()
	conn, err := c.hijack(o.Mux)
	if err != nil {
		return err
	}
	defer conn.close()
	o.Pending = conn.pending
	if err := s.Containers.Attach(c.Context(), ctr.ID, o, conn.file); err != nil {
		conn.complain(err, o.Mux)
		return err
	}
	return nil
}

// checkDetachKeys knows Docker's grammar: single characters and ctrl-<key>,
// separated by commas, where key is a letter or one of @ [ \ ] ^ _.
func checkDetachKeys(keys string) error {
	if keys == "" {
		return nil
	}
	for part := range strings.SplitSeq(keys, ",") {
		if k, ok := strings.CutPrefix(part, "ctrl-"); ok {
			if len(k) != 1 || !strings.Contains("abcdefghijklmnopqrstuvwxyz@[\\]^_", k) {
				return badDetachKeys(keys)
			}
		} else if len(part) != 1 {
			return badDetachKeys(keys)
		}
	}
	return nil
}

func badDetachKeys(keys string) error {
	return cnm.Invalid("invalid detach keys (%s) provided: a list like ctrl-p,ctrl-q of single characters and ctrl- with a letter or one of @[\\]^_ is wanted", keys)
}

func (s *server) containerLogs(c *call) error {
	o := container.LogOptions{
		Stdout: c.Bool("stdout"), Stderr: c.Bool("stderr"), Follow: c.Bool("follow"),
		Timestamps: c.Bool("timestamps"), Details: c.Bool("details"), Tail: -1,
	}
	if !o.Stdout && !o.Stderr {
		return cnm.Invalid("Bad parameters: you must choose at least one stream")
	}
	var err error
	if o.Since, err = parseTime("since", c.Query("since")); err != nil {
		return err
	}
	if o.Until, err = parseTime("until", c.Query("until")); err != nil {
		return err
	}
	// As dockerd: what is no number means all.
	if n, ok, err := c.Int("tail"); ok && err == nil {
		o.Tail = n
	}
	ctr, err := s.Containers.Get(c.Vars["id"])
	if err != nil {
		return err
	}
	c.Header().Set("Content-Type", apitypes.MediaTypeRawStream)
	if !ctr.Config.Tty && !c.Version.Before(42) {
		c.Header().Set("Content-Type", apitypes.MediaTypeMultiplexedStream)
	}
	ctx, cancel := c.Streaming()
	defer cancel()
	if o.Follow {
		c.Begin(http.StatusOK)
	}
	err = s.Containers.Logs(ctx, ctr.ID, o, c.w, c.Flush)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && c.w.started() && !ctr.Config.Tty:
		// Stream 3 is the daemon's own voice; the CLI shows it as an error.
		_, _ = c.Write(frame(3, []byte("Error grabbing logs: "+err.Error()+"\n")))
		return err
	case err != nil:
		return err
	case !c.w.started():
		return c.Empty(http.StatusOK)
	}
	return nil
}
