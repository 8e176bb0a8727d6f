package container

import "time"

// resolvPoll is how often the host's resolv.conf is looked at. A look is two
// stat(2); inotify would have to follow the links that the file may be reached
// through, and their folders.
const resolvPoll = time.Second

// followResolv brings a change of the host's resolv.conf to the containers that
// run: their own files are rewritten in place, unless somebody edited them. A
// change counts when the file has been at rest for one look, since who rewrites it
// (a VPN, a DHCP client) often does so more than once.
func (e *Engine) followResolv() {
	mark := e.cfg.HostResolv.Mark()
	e.work.Go(func() {
		tick := time.NewTicker(resolvPoll)
		defer tick.Stop()
		settled := mark
		for {
			select {
			case <-tick.C:
			case <-e.ctx.Done():
				return
			}
			now := e.cfg.HostResolv.Mark()
			if now != mark {
				mark = now
				continue
			}
			if mark != settled {
				settled = mark
				e.resolvChanged()
			}
		}
	})
}

func (e *Engine) resolvChanged() {
	e.log.Info("the host's resolv.conf changed; running containers follow")
	e.renew()
}
