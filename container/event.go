package container

import (
	"maps"
	"strconv"

	"linkspan/events"
)

// publish tells the world, in Docker's words: the labels, the image and the
// name, and what belongs to the action.
func (e *Engine) publish(c *Container, action string, more ...string) {
	a := map[string]string{}
	maps.Copy(a, c.Config.Labels)
	a["image"], a["name"] = c.Config.Image, c.Name
	for i := 0; i+1 < len(more); i += 2 {
		a[more[i]] = more[i+1]
	}
	e.cfg.Events.Publish(events.Event{Type: "container", Action: action, ID: c.ID, Attributes: a})
}

func itoa(i int) string { return strconv.Itoa(i) }
