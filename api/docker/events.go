package docker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/events"
)

// parseTime reads a moment as the API carries it: seconds since 1970, perhaps
// with nanoseconds after a dot ("1136073600.000000001"). RFC 3339 is taken too.
// The empty string is the zero time.
func parseTime(key, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	secs, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(secs, 10, 64)
	if err != nil {
		if t, terr := time.Parse(time.RFC3339Nano, s); terr == nil {
			return t, nil
		}
		return time.Time{}, badTime(key, s)
	}
	var nanos int64
	if frac != "" {
		if nanos, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64); err != nil || nanos < 0 {
			return time.Time{}, badTime(key, s)
		}
	}
	return time.Unix(sec, nanos), nil
}

func badTime(key, s string) error {
	return cnm.Invalid("invalid value %q for %s: it must be a time in seconds since 1970 (1136073600.000000001) or in RFC 3339 (2006-01-02T15:04:05Z)", s, key)
}

// eventJSON is an event with the fields that clients before 1.22 read, which
// dockerd sends on until 1.52.
type eventJSON struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`

	Type   string
	Action string
	Actor  actorJSON
	Scope  string `json:"scope,omitempty"`

	Time     int64 `json:"time,omitempty"`
	TimeNano int64 `json:"timeNano,omitempty"`
}

type actorJSON struct {
	ID         string
	Attributes map[string]string
}

func renderEvent(e events.Event) eventJSON {
	j := eventJSON{
		Type: e.Type, Action: e.Action, Scope: "local",
		Actor: actorJSON{ID: e.ID, Attributes: orEmptyMap(e.Attributes)},
		Time:  e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}
	switch e.Type {
	case "container":
		j.Status, j.ID, j.From = e.Action, e.ID, e.Attributes["image"]
	case "image":
		j.Status, j.ID = e.Action, e.ID
	}
	return j
}

// eventStream sends the past events since a moment and the coming ones until
// another, or for ever.
func (s *server) eventStream(c *call) error {
	since, err := parseTime("since", c.Query("since"))
	if err != nil {
		return err
	}
	until, err := parseTime("until", c.Query("until"))
	if err != nil {
		return err
	}
	if !until.IsZero() && since.After(until) {
		return cnm.Invalid("`since` time (%s) cannot be after `until` time (%s)", c.Query("since"), c.Query("until"))
	}
	f, err := c.Filters()
	if err != nil {
		return err
	}
	ctx, cancel := c.Streaming()
	defer cancel()
	if since.IsZero() && !until.IsZero() {
		since = time.Unix(0, 0) // an end without a beginning asks for the past
	}
	past, coming := s.Events.Subscribe(ctx, since)

	c.Header().Set("Content-Type", "application/json")
	c.Begin(200) // at once: clients wait for the headers before they act
	send := func(e events.Event) error {
		if !until.IsZero() && e.Time.After(until) || !f.event(e) {
			return nil
		}
		if err := c.Encode(renderEvent(e)); err != nil {
			return fmt.Errorf("sending an event: %w", err)
		}
		c.Flush()
		return nil
	}
	for _, e := range past {
		if err := send(e); err != nil {
			return err
		}
	}
	var end <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		end = t.C
	}
	for {
		select {
		case <-end:
			return nil
		case e, ok := <-coming:
			if !ok {
				if ctx.Err() == nil {
					s.log.Warn("a reader of events is too slow and was let go", "path", c.R.URL.RequestURI())
				}
				return nil
			}
			if err := send(e); err != nil {
				return err
			}
		}
	}
}

// event says whether an event is wanted; the rules are dockerd's
// (daemon/events/filter).
func (f filters) event(e events.Event) bool {
	if !f.Exact("type", e.Type) || !f.Exact("scope", "local") || !f.Labels("label", e.Attributes) {
		return false
	}
	// These actions carry a detail after a colon: a filter without it means all.
	action := f.Exact
	if f["event"]["health_status"] || f["event"]["exec_create"] || f["event"]["exec_start"] {
		action = f.Prefix
	}
	if !action("event", e.Action) {
		return false
	}
	for _, kind := range []string{"container", "network", "volume", "daemon", "plugin", "service", "node", "secret", "config"} {
		if f.Has(kind) && !f.Prefix(kind, e.ID) && !f.Prefix(kind, e.Attributes["name"]) {
			return false
		}
	}
	if !f.Has("image") {
		return true
	}
	name := e.Attributes["image"]
	if e.Type == "image" {
		name = e.Attributes["name"]
	}
	return f.Exact("image", e.ID) || f.Exact("image", name) || f.Exact("image", stripTag(e.ID)) || f.Exact("image", stripTag(name))
}

// stripTag cuts ":tag" or "@digest" off an image's name; a registry's port stays.
func stripTag(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		return name[:i]
	}
	return name
}
