package network

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// The host's routes are read when they changed, and not for every network.
func TestHostWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, routes := 0, []dataplane.HostRoute(nil)
		var fail error
		w := newWorld(t)
		w.cfg.HostRoutes = func(context.Context) ([]dataplane.HostRoute, error) { reads++; return routes, fail }
		c, err := New(t.Context(), w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.Controller = c
		news := make(chan struct{})
		make := func(subnet string) error {
			_, _, err := c.CreateNetwork(t.Context(), NetworkWish{Name: "n" + randomID()[:8], Pools: []cnm.Pool{{Subnet: pfx(subnet)}}})
			return err
		}
		for i, s := range []string{"10.0.0.0/24", "10.0.1.0/24"} {
			if err := make(s); err != nil || reads != 1 {
				t.Errorf("%d: %v, %d reads", i, err, reads)
			}
		}
		time.Sleep(2 * time.Second) // nobody tells: it is old
		if err := make("10.0.2.0/24"); err != nil || reads != 2 {
			t.Errorf("%v, %d reads", err, reads)
		}
		go c.HostWatched(news)
		synctest.Wait()
		make("10.0.3.0/24") // what was missed before the watch
		time.Sleep(20 * time.Second)
		if err := make("10.0.4.0/24"); err != nil || reads != 3 {
			t.Errorf("%v, %d reads", err, reads)
		}
		routes = []dataplane.HostRoute{{Prefix: pfx("10.8.0.0/16"), What: "route via dev tun0"}}
		news <- struct{}{}
		synctest.Wait()
		if err := make("10.8.5.0/24"); !errors.Is(err, cnm.ErrForbidden) || reads != 4 {
			t.Errorf("a VPN came up: %v, %d reads", err, reads)
		}
		fail = errBoom
		news <- struct{}{}
		synctest.Wait()
		if err := make("10.0.5.0/24"); !errors.Is(err, errBoom) {
			t.Errorf("%v", err)
		}
		fail = nil
		if err := make("10.0.5.0/24"); err != nil || reads != 6 {
			t.Errorf("%v, %d reads", err, reads)
		}
		close(news)
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if err := make("10.0.6.0/24"); err != nil || reads != 7 {
			t.Errorf("%v, %d reads", err, reads)
		}
	})
}
