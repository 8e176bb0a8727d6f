package keeper

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// freeze stops a stream's goroutines without losing a byte, and describes it.
// controls gives the connections' places in the state.
func (s *stream) freeze(b *bag, controls map[*control]int) savedStream {
	s.mu.Lock()
	s.frozen = true
	if s.in != nil {
		s.in.freeze()
	}
	var clients []*attachment
	for a := range s.all {
		a.freeze()
		clients = append(clients, a)
	}
	for _, o := range s.outs {
		if !o.done {
			_ = o.r.SetReadDeadline(past())
		}
	}
	s.mu.Unlock()
	s.pumps.Wait()
	for _, a := range clients {
		<-a.writerLeft
		<-a.readerLeft
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := savedStream{
		Spec: s.spec, Started: s.started, Ended: s.hasEnded(), Lost: s.lost, Gap: s.gap,
		Log: -1, Stdin: -1, StdinHold: -1,
	}
	if s.log != nil {
		st.Log = b.take(s.log.f)
		s.log.close()
	}
	if s.in != nil {
		st.StdinClosed = s.in.closed
		st.StdinHold = b.own(int(s.in.hold))
		if s.in.w != nil {
			st.Stdin = b.take(s.in.w)
			s.in.w.Close()
		}
	}
	for _, o := range s.outs {
		so := savedOutput{Kind: o.kind, Done: o.done, FIFO: -1, Hold: b.own(int(o.hold)), Held: o.split.held, Since: o.split.since}
		if !o.done {
			so.FIFO = b.take(o.r)
			o.r.Close()
		}
		st.Outs = append(st.Outs, so)
	}
	for a := range s.all {
		if a.dead { // its client went when its writer had stopped
			a.tell()
			continue
		}
		st.Clients = append(st.Clients, a.save(b, controls))
	}
	return st
}

// freeze stops an attachment's goroutines; what they have in hand stays in it.
func (a *attachment) freeze() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = true
	_ = a.conn.SetDeadline(past())
	close(a.thaw)
	a.cond.Broadcast()
}

// save describes a frozen attachment.
func (a *attachment) save(b *bag, controls map[*control]int) savedClient {
	c := savedClient{
		Conn: b.take(a.conn), Options: a.o, Control: -1, Request: a.from.request,
		Stdin: a.stdin, Live: a.live, Queue: a.queue, Typed: a.typed, KeysHeld: a.keys.held,
		InputDone: a.inputDone, Finishing: a.finishing, Detached: a.detached, Replay: -1,
	}
	c.Options.Pending = a.pending
	if i, ok := controls[a.from.control]; ok {
		c.Control = i
	}
	select {
	case <-a.flushed:
		c.Flushed = true
	default:
	}
	if a.replay != nil {
		c.Replay, c.Reading = a.replay.save(b)
	}
	a.conn.Close()
	return c
}

// thaw makes a stream of its description and lets it go on.
func (e *environment) thaw(st savedStream, controls []*control) *stream {
	s := e.base(st.Spec)
	s.started, s.lost, s.gap = st.Started, st.Lost, st.Gap
	if f := file(st.Log, st.Spec.LogPath); f != nil {
		s.log = newLogFile(st.Spec.LogPath, f, st.Spec.Log, s.logger, s.follow)
	}
	if st.Spec.Stdin {
		path := filepath.Join(s.dir, "stdin")
		s.in = &stdin{path: path, hold: held(st.StdinHold), w: file(st.Stdin, path), closed: st.StdinClosed}
		closeOnExec(st.StdinHold)
	}
	for _, so := range st.Outs {
		o := &output{kind: so.Kind, done: so.Done, hold: held(so.Hold)}
		closeOnExec(so.Hold)
		o.path = filepath.Join(s.dir, o.name())
		o.split = splitter{source: o.name(), attrs: attrsJSON(st.Spec.Log.Attrs), tick: s.stamps.next, held: so.Held, since: so.Since}
		o.r = file(so.FIFO, o.path)
		s.outs = append(s.outs, o)
	}
	if st.Ended {
		close(s.ended)
	}
	for _, sc := range st.Clients {
		if err := s.thawClient(sc, controls); err != nil {
			s.logger.Error("an attached client was lost in the upgrade", "err", err)
		}
	}
	s.run()
	return s
}

func (s *stream) thawClient(sc savedClient, controls []*control) error {
	conn, err := socket[streamConn](sc.Conn)
	if err != nil {
		return err
	}
	from := origin{request: sc.Request}
	if sc.Control >= 0 && sc.Control < len(controls) {
		from.control = controls[sc.Control]
	}
	a := newAttachment(s, sc.Options, conn, from)
	a.stdin, a.live, a.queue, a.typed = sc.Stdin, sc.Live, sc.Queue, sc.Typed
	a.keys.held = min(sc.KeysHeld, max(len(a.keys.keys)-1, 0))
	a.inputDone, a.finishing, a.detached = sc.InputDone, sc.Finishing, sc.Detached
	if sc.Flushed {
		close(a.flushed)
	}
	if sc.Replay >= 0 {
		if a.replay, err = thawReplay(s.spec.LogPath, sc.Replay, sc.Reading); err != nil {
			conn.Close()
			return err
		}
	}
	s.all[a] = struct{}{}
	go a.write()
	go a.read()
	return nil
}

// closeOnExec takes back what the passing on needed.
func closeOnExec(fd int) {
	if fd >= 0 {
		unix.CloseOnExec(fd)
	}
}
