package container

import (
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// Docker's defaults of a health check, and how much of it is kept.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthLog           = 5    // results
	healthOutput        = 4096 // bytes of each
)

// healthCheck is a container's health check with nothing left open.
type healthCheck struct {
	cmd                                           []string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
}

// verifyHealth refuses what is no check, in Docker's words.
func verifyHealth(h *apicontainer.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < apicontainer.MinimumDuration {
			return cnm.Invalid("%s in Healthcheck cannot be less than %s", d.name, apicontainer.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return cnm.Invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch kind := h.Test[0]; kind {
	case "", "NONE": // Docker's older clients send an empty word for "the image's"
	case "CMD", "CMD-SHELL":
		if len(h.Test) == 1 || h.Test[1] == "" {
			return cnm.Invalid("the health check of kind %s has no command", kind)
		}
	default:
		return cnm.Invalid("Unknown healthcheck type '%s' (expected 'CMD', 'CMD-SHELL' or 'NONE')", kind)
	}
	return nil
}

// mergeHealth fills what a client left open from the image.
func mergeHealth(own, img *apicontainer.HealthConfig) *apicontainer.HealthConfig {
	if own == nil || img == nil {
		if own == nil {
			return img
		}
		return own
	}
	h := *own
	if len(h.Test) == 0 {
		h.Test = img.Test
	}
	for _, x := range []struct{ to, from *time.Duration }{
		{&h.Interval, &img.Interval}, {&h.Timeout, &img.Timeout}, {&h.StartPeriod, &img.StartPeriod}, {&h.StartInterval, &img.StartInterval},
	} {
		if *x.to == 0 {
			*x.to = *x.from
		}
	}
	if h.Retries == 0 {
		h.Retries = img.Retries
	}
	return &h
}

// healthOf is a configuration's health check, or nil.
func healthOf(c *apicontainer.Config) *healthCheck {
	h := c.Healthcheck
	if h == nil || len(h.Test) < 2 || h.Test[0] != "CMD" && h.Test[0] != "CMD-SHELL" {
		return nil
	}
	k := &healthCheck{
		cmd: h.Test[1:], interval: h.Interval, timeout: h.Timeout, startPeriod: h.StartPeriod, startInterval: h.StartInterval, retries: h.Retries,
	}
	if h.Test[0] == "CMD-SHELL" {
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		k.cmd = slices.Concat(shell, []string{strings.Join(h.Test[1:], " ")})
	}
	for _, x := range []struct {
		to  *time.Duration
		def time.Duration
	}{{&k.interval, healthInterval}, {&k.timeout, healthTimeout}, {&k.startInterval, healthStartInterval}} {
		if *x.to == 0 {
			*x.to = x.def
		}
	}
	if k.retries == 0 {
		k.retries = healthRetries
	}
	return k
}

// begin is the health of a container that has just been started; the results of
// its earlier life stay to be read.
func (k *healthCheck) begin(was *Health) *Health {
	if k == nil {
		return nil
	}
	h := &Health{Status: apicontainer.Starting}
	if was != nil {
		h.Log = was.Log
	}
	return h
}

// wait is how long it is to the next check.
func (k *healthCheck) wait(h *Health, sinceStart time.Duration) time.Duration {
	if sinceStart < k.startPeriod && (h == nil || h.Status == apicontainer.Starting) {
		return k.startInterval
	}
	return k.interval
}

// judge is the health after one more result. A failure within the start period
// of a container that was never healthy does not count.
func (k *healthCheck) judge(was *Health, started time.Time, r *apicontainer.HealthcheckResult) *Health {
	h := k.begin(nil)
	if was != nil {
		*h = *was
	}
	h.Log = append(slices.Clone(h.Log), r)
	h.Log = h.Log[max(0, len(h.Log)-healthLog):]
	switch {
	case r.ExitCode == 0:
		h.FailingStreak, h.Status = 0, apicontainer.Healthy
	case h.Status == apicontainer.Starting && r.Start.Sub(started) < k.startPeriod:
	default:
		if h.FailingStreak++; h.FailingStreak >= k.retries {
			h.Status = apicontainer.Unhealthy
		}
	}
	return h
}

// endHealth is the health of a container that has ended: as with Docker, nothing
// at rest is healthy.
func endHealth(was *Health) *Health {
	if was == nil {
		return nil
	}
	h := *was
	h.Status = apicontainer.Unhealthy
	return &h
}
