package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"linkspan/cnm"
)

// An upgrade replaces the process by exec, so that its pid, its descriptors and
// what waits in them stay. Everything is stopped at a point where no byte is
// between two places, described as data, and made again from that description:
// by the next process, or, if the exec fails, by this one.

// upgrade checks that it can be done, and begins it. The request is answered
// afterwards, by whoever then serves.
func (s *server) upgrade(exe string) error {
	if s.cfg.Exec == nil {
		return cnm.Unsupported("this keeper cannot replace itself")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, exe, "keeper", "--state-format").Output()
	if err != nil {
		return cnm.Invalid("%s cannot be this keeper's next version: %w", exe, err)
	}
	if got, err := strconv.Atoi(string(bytes.TrimSpace(out))); err != nil || got != stateFormat {
		return cnm.Unsupported("%s takes over keepers of state format %.20q, this one has %d: it must be ended, which cuts attached clients", exe, out, stateFormat)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		return cnm.Conflict("the keeper is being upgraded already")
	}
	s.frozen = true
	go s.replace(exe)
	return errFrozen // the request stays under way
}

// replace does not return when it succeeds.
func (s *server) replace(exe string) {
	s.swap.Lock()
	defer s.swap.Unlock()
	var b bag
	began := time.Now()
	st := s.freeze(&b)
	err := b.err
	var f *os.File
	if err == nil {
		f, err = writeState(st)
	}
	if err == nil {
		err = b.pass(true)
	}
	if err == nil {
		s.env.logger.Info("keeper is replaced", "exe", exe, "descriptors", len(b.fds), "stopped_for", time.Since(began))
		err = s.cfg.Exec(exe, f)
	}
	_ = b.pass(false)
	if f != nil {
		f.Close()
	}
	s.env.logger.Error("the keeper could not be replaced and goes on", "exe", exe, "err", err)
	if rerr := s.thaw(st, cnm.Errorf(cnm.ErrUnavailable, "the keeper could not be replaced by %s and goes on: %w", exe, err)); rerr != nil {
		s.env.logger.Error("the keeper cannot go on", "err", rerr)
		s.ask(stopKeep)
		return
	}
	s.run()
}

// freeze stops everything and describes it.
func (s *server) freeze(b *bag) savedServer {
	_ = s.l.SetDeadline(past())
	s.serving.Wait()
	s.mu.Lock()
	var controls []*control
	place := map[*control]int{}
	for c := range s.controls {
		place[c] = len(controls)
		controls = append(controls, c)
	}
	s.mu.Unlock()
	for _, c := range controls {
		c.freeze()
	}
	for _, c := range controls {
		c.left.Wait()
	}
	st := savedServer{Format: stateFormat, Began: s.began}
	s.mu.Lock()
	streams, retired := s.streams, s.retired
	s.streams, s.retired = map[string]*stream{}, map[*stream]struct{}{}
	s.mu.Unlock()
	for _, x := range streams {
		st.Streams = append(st.Streams, x.freeze(b, place))
	}
	for x := range retired {
		saved := x.freeze(b, place)
		saved.Retired = true
		st.Streams = append(st.Streams, saved)
	}
	st.Ports = s.ports.freeze(b)
	st.Views, st.Names = s.resolvers.freeze(b)
	st.Tunnels = s.tunnels.freeze(b)
	s.mu.Lock()
	s.resolvers = newResolvers(s.env.logger) // for a thaw in this process
	s.mu.Unlock()
	// Last, since streams may have said something meanwhile.
	for _, c := range controls {
		st.Controls = append(st.Controls, c.save(b))
	}
	s.mu.Lock()
	s.controls = map[*control]struct{}{}
	s.mu.Unlock()
	st.Listener = b.take(s.l)
	st.Lock = b.take(s.lock)
	s.l.Close()
	s.lock.Close()
	return st
}

// thaw makes the server of its description. upgraded is the answer to the
// upgrade request: nil in the next process.
func (s *server) thaw(st savedServer, upgraded error) error {
	f := file(st.Listener, "listener")
	if f == nil {
		return errors.New("the former keeper left no listener")
	}
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return fmt.Errorf("the former keeper's listener: %w", err)
	}
	s.l = l.(*net.UnixListener)
	s.l.SetUnlinkOnClose(false)
	s.lock = file(st.Lock, "lock")
	s.began = st.Began
	var controls []*control
	for _, sc := range st.Controls {
		if sc.Conn < 0 {
			controls = append(controls, nil) // it ended just before
			continue
		}
		c, err := s.thawControl(sc)
		if err != nil {
			s.env.logger.Error("a daemon's connection was lost in the upgrade", "err", err)
			closeAll(sc.Files)
		}
		controls = append(controls, c) // nil keeps the places
	}
	s.ports.thaw(st.Ports)
	s.resolvers.thaw(st.Views, st.Names)
	s.tunnels.thaw(st.Tunnels)
	for _, saved := range st.Streams {
		x := s.env.thaw(saved, controls)
		if saved.Retired {
			s.retire(x)
			continue
		}
		s.mu.Lock()
		s.streams[saved.Spec.ID] = x
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.frozen = false
	s.mu.Unlock()
	for i, c := range controls {
		if c != nil {
			c.goOn(st.Controls[i].Running, upgraded)
		}
	}
	return nil
}

func (s *server) thawControl(sc savedControl) (*control, error) {
	conn, err := socket[*net.UnixConn](sc.Conn)
	if err != nil {
		return nil, err
	}
	c := newControl(s, conn)
	c.out = sc.Out
	c.greeted = sc.Greeted
	c.frames.buf, c.frames.files = sc.In, sc.Files
	for _, fd := range sc.Files {
		closeOnExec(fd)
	}
	s.mu.Lock()
	s.controls[c] = struct{}{}
	s.mu.Unlock()
	return c, nil
}

// goOn starts a thawed connection, with the requests that were under way.
func (c *control) goOn(requests []request, upgraded error) {
	for _, q := range requests {
		if q.Op == opUpgrade {
			c.answer(q.ID, nil, upgraded)
			continue
		}
		c.launch(q, nil)
	}
	c.start()
}

// freeze stops a connection's goroutines. Requests that only wait are left
// under way; the others come to their end.
func (c *control) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
	_ = c.conn.SetDeadline(past())
	for _, r := range c.running {
		if r.q.Op == opDrain {
			r.cancel(errFrozen)
		}
	}
	c.cond.Broadcast()
}

// save describes a frozen connection.
func (c *control) save(b *bag) savedControl {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return savedControl{Conn: -1}
	}
	sc := savedControl{Conn: b.take(c.conn), Greeted: c.greeted, In: c.frames.buf, Out: c.out}
	for _, fd := range c.frames.files {
		sc.Files = append(sc.Files, b.own(fd))
	}
	for _, r := range c.running {
		sc.Running = append(sc.Running, r.q)
	}
	c.conn.Close()
	return sc
}

// resume starts from what a former process left.
func (s *server) resume(f *os.File) error {
	st, err := readState(f)
	f.Close()
	if err != nil {
		return err
	}
	return s.thaw(st, nil)
}
