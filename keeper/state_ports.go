package keeper

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// freeze describes every reservation. Silent sockets are numbers only; the
// forwarders stop.
func (t *portTable) freeze(b *bag) []savedPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []savedPort
	for q, r := range t.held {
		sp := savedPort{Request: q}
		for _, fd := range r.sockets {
			sp.Sockets = append(sp.Sockets, b.own(fd))
		}
		for _, f := range r.forwarders {
			sp.Forwarders = append(sp.Forwarders, f.freeze(b))
		}
		out = append(out, sp)
	}
	t.held = map[PortRequest]*reservation{}
	return out
}

// thaw takes the reservations over. One that cannot be is closed and said; the
// daemon compares Ports with what it wants.
func (t *portTable) thaw(saved []savedPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sp := range saved {
		r := &reservation{req: sp.Request, sockets: sp.Sockets}
		var errs []error
		for _, fd := range sp.Sockets {
			closeOnExec(fd)
		}
		for _, sf := range sp.Forwarders {
			f, err := t.thawForwarder(sp.Request.Proto, sf)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			r.forwarders = append(r.forwarders, f)
		}
		if err := errors.Join(errs...); err != nil {
			t.logger.Error("a port reservation was lost in the upgrade", "request", fmt.Sprint(sp.Request), "err", err)
			r.close()
			continue
		}
		t.held[sp.Request] = r
	}
}

func (t *portTable) thawForwarder(proto string, sf savedForwarder) (forwarder, error) {
	if proto == "udp" {
		return t.thawUDP(sf)
	}
	f := file(sf.Listener, "listener")
	if f == nil {
		return nil, errors.New("its listener has no descriptor")
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	fw := newTCPForwarder(t.logger, l.(*net.TCPListener), sf.Target)
	for _, sc := range sf.Conns {
		fw.thaw(sc)
	}
	fw.wg.Go(fw.accept)
	return fw, nil
}

func (t *portTable) thawUDP(sf savedForwarder) (forwarder, error) {
	f := file(sf.Listener, "udp")
	if f == nil {
		return nil, errors.New("its socket has no descriptor")
	}
	defer f.Close()
	l, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	fw, err := newUDPForwarder(t.logger, t.chunks, l.(*net.UDPConn), sf.Target)
	if err != nil {
		l.Close()
		return nil, err
	}
	fw.mu.Lock()
	defer fw.mu.Unlock()
	for _, ss := range sf.Sessions {
		if c, err := socket[*net.UDPConn](ss.Server); err == nil {
			fw.add(&udpSession{peer: peer{ss.Client, ss.Local}, server: c})
		}
	}
	fw.wg.Go(fw.receive)
	return fw, nil
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
		sf.Sessions = append(sf.Sessions, savedSession{Client: s.peer.client, Local: s.peer.local, Server: b.take(s.server)})
		s.server.Close()
	}
	return sf
}
