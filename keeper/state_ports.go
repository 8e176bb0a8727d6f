package keeper

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// freeze describes every reservation. Sockets are numbers only; the forwarders
// stop. No request is under way.
func (t *portTable) freeze(b *bag) []savedPort {
	t.mu.Lock()
	w := t.watch
	t.watch = nil
	t.mu.Unlock()
	if w != nil {
		w.stop() // no one wakes or goes to sleep any more
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []savedPort
	for _, r := range t.held {
		sp := savedPort{Request: r.req}
		for place, fd := range r.sockets {
			switch f := r.awake[place]; {
			case f != nil:
				sp.Forwarders = append(sp.Forwarders, f.freeze(b))
			case fd < 0:
			case r.req.ForwardTo.IsValid():
				sp.Forwarders = append(sp.Forwarders, savedForwarder{Listener: b.own(int(fd)), Target: r.req.target(place)})
			default:
				sp.Sockets = append(sp.Sockets, b.own(int(fd)))
			}
		}
		out = append(out, sp)
	}
	t.held, t.serials = map[PortRequest]*reservation{}, map[int32]*reservation{}
	return out
}

// thaw takes the reservations over. One that cannot be is closed and said; the
// daemon compares Ports with what it wants.
func (t *portTable) thaw(saved []savedPort) {
	for _, sp := range saved {
		r := &reservation{req: sp.Request, ready: make(chan struct{}), sockets: make([]int32, max(sp.Request.count(), len(sp.Sockets)))}
		for i := range r.sockets {
			r.sockets[i] = -1
		}
		for i, fd := range sp.Sockets {
			closeOnExec(fd)
			r.sockets[i] = int32(fd)
		}
		t.mu.Lock()
		t.enter(r)
		t.mu.Unlock()
		var errs []error
		for _, sf := range sp.Forwarders {
			if err := t.thawPlace(r, sf); err != nil {
				errs = append(errs, err)
			}
		}
		close(r.ready)
		if err := errors.Join(errs...); err != nil {
			t.logger.Error("a port reservation was lost in the upgrade", "request", sp.Request.String(), "err", err)
			t.mu.Lock()
			delete(t.held, r.key)
			delete(t.serials, r.serial)
			t.mu.Unlock()
			r.close()
		}
	}
}

// thawPlace goes on with one forwarded port: asleep, if it serves no one.
func (t *portTable) thawPlace(r *reservation, sf savedForwarder) error {
	place := int(sf.Target.Port()) - int(r.req.ForwardTo.Port())
	if place < 0 || place >= len(r.sockets) {
		return fmt.Errorf("its forwarder to %s is none of its", sf.Target)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(sf.Conns)+len(sf.Sessions) > 0 {
		f, err := t.thawForwarder(r.req.Proto, sf)
		if err == nil {
			r.wakeUp(place, f)
		}
		return err
	}
	if sf.Listener < 0 {
		return errors.New("its socket did not come over")
	}
	closeOnExec(sf.Listener)
	r.sockets[place] = int32(sf.Listener)
	w, err := t.watching()
	if err != nil {
		return err
	}
	return w.add(sf.Listener, r.serial, place)
}

// thawForwarder goes on with one that serves clients.
func (t *portTable) thawForwarder(proto string, sf savedForwarder) (forwarder, error) {
	f := file(sf.Listener, "forwarded")
	if f == nil {
		return nil, errors.New("its socket has no descriptor")
	}
	defer f.Close()
	if proto == "udp" {
		fw, err := newUDP(t.logger, t.chunks, f, sf.Target)
		if err == nil {
			fw.thaw(sf.Sessions)
		}
		return fw, err
	}
	fw, err := newTCP(t.logger, f, sf.Target)
	if err == nil {
		for _, sc := range sf.Conns {
			fw.thaw(sc)
		}
	}
	return fw, err
}

func (f *udpForwarder) thaw(saved []savedSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ss := range saved {
		c, err := socket[*net.UDPConn](ss.Server)
		if err != nil {
			continue
		}
		s := &udpSession{peer: peer{ss.Client, ss.Local}, server: c, to: f.to}
		if ss.To.IsValid() {
			s.to, f.moved = ss.To, time.Now()
		}
		f.add(s)
	}
}

// quiesceTime is how long a forwarded connection may take to pass on what it has
// read. One whose receiver takes nothing for so long is reset.
const quiesceTime = time.Second

// freeze stops between two splices: a deadline on *reading* ends each copy with
// nothing in its hands, since what was read is always written first.
func (f *tcpForwarder) freeze(b *bag) savedForwarder {
	f.mu.Lock()
	f.frozen = true
	_ = f.l.SetDeadline(past())
	f.cancel() // dials are made again
	for c := range f.conns {
		_ = c.client.SetReadDeadline(past())
		if c.server != nil {
			_ = c.server.SetReadDeadline(past())
		}
	}
	f.mu.Unlock()
	cut := time.AfterFunc(quiesceTime, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for c := range f.conns {
			_ = c.client.SetDeadline(past())
			if c.server != nil {
				_ = c.server.SetDeadline(past())
			}
			c.stuck = true
		}
	})
	f.wg.Wait()
	cut.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	sf := savedForwarder{Listener: b.take(f.l), Target: f.to}
	f.l.Close()
	for c := range f.conns {
		sc := savedForwarded{Client: b.take(c.client), Server: -1, UpDone: c.upDone, DownDone: c.downDone}
		if c.server != nil {
			sc.Server = b.take(c.server)
			c.server.Close()
		}
		c.client.Close()
		sf.Conns = append(sf.Conns, sc)
	}
	return sf
}

// thaw goes on with a connection.
func (f *tcpForwarder) thaw(sc savedForwarded) {
	c := &forwarded{upDone: sc.UpDone, downDone: sc.DownDone}
	var err error
	if c.client, err = socket[*net.TCPConn](sc.Client); err != nil {
		return
	}
	if sc.Server >= 0 {
		if c.server, err = socket[*net.TCPConn](sc.Server); err != nil {
			c.client.Close()
			return
		}
	}
	f.slots <- struct{}{}
	f.start(c)
}

func (f *udpForwarder) freeze(b *bag) savedForwarder {
	f.mu.Lock()
	f.frozen = true
	_ = f.l.SetReadDeadline(past())
	for _, s := range f.sessions {
		_ = s.server.SetReadDeadline(past())
	}
	f.mu.Unlock()
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	sf := savedForwarder{Listener: b.take(f.l), Target: f.to}
	f.l.Close()
	for e := f.recent.Back(); e != nil; e = e.Prev() { // the oldest first, so that add keeps the order
		s := e.Value.(*udpSession)
		ss := savedSession{Client: s.peer.client, Local: s.peer.local, Server: b.take(s.server)}
		if s.to != f.to {
			ss.To = s.to
		}
		sf.Sessions = append(sf.Sessions, ss)
		s.server.Close()
	}
	return sf
}
