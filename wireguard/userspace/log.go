package userspace

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// complaint keeps what is said again and again from filling the log: a peer that cannot
// be reached fails once per packet.
type complaint struct {
	mu    sync.Mutex
	last  time.Time
	muted int
}

// quietTime is between two complaints.
const quietTime = 30 * time.Second

// may says whether to speak now, and how often it was not said since.
func (c *complaint) may(now time.Time) (ok bool, muted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last) < quietTime {
		c.muted++
		return false, 0
	}
	muted, c.muted, c.last = c.muted, 0, now
	return true, muted
}

// deviceLogger is the library's. It names peers by a few letters of their public keys,
// and never writes a private one.
func deviceLogger(logger *slog.Logger) *device.Logger {
	var c complaint
	return &device.Logger{
		Verbosef: device.DiscardLogf,
		Errorf: func(format string, args ...any) {
			if ok, muted := c.may(time.Now()); ok {
				logger.Warn("tunnel: "+fmt.Sprintf(format, args...), "others_meanwhile", muted)
			}
		},
	}
}
