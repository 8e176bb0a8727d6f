package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"linkspan/netns"
)

const (
	nameRestart     = "daemon killed among %d containers, %d ports: API answers after exec"
	nameRestartCPU  = "  CPU time that the daemon took for it"
	nameRestartLost = "  packets lost through a published port, of 1,000/s"
)

// portsEach is how many ports each of the restart's containers publishes.
const portsEach = 10

// crowds are how many containers run when the daemon is killed.
var crowds = []int{50, 500}

// restart measures how long after its start a daemon answers, when its predecessor was
// killed among many running containers, and what a client of a published port loses
// meanwhile. Containers are real ones, with a shim and a network each.
func (b *bench) restart(ctx context.Context) error {
	wanted := b.wanted(nameRestartCPU, nameRestartLost)
	for _, n := range crowds {
		wanted = wanted || b.wanted(fmt.Sprintf(nameRestart, n, n*portsEach))
	}
	if !wanted {
		return nil
	}
	r, err := b.world.newRestarts(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	for _, n := range crowds {
		if err := r.grow(ctx, n); err != nil {
			return err
		}
		if err := b.killed(ctx, r, n); err != nil {
			return err
		}
	}
	return nil
}

// killed measures one crowd.
func (b *bench) killed(ctx context.Context, r *restarts, n int) error {
	var took, cpu []float64
	l, err := r.listen()
	if err != nil {
		return err
	}
	// The first start after a crowd came reads what the disk has.
	for i := -1; i < b.rounds; i++ {
		time.Sleep(time.Second)
		r.kill()
		d, err := r.exec(ctx)
		if err != nil {
			return err
		}
		if i >= 0 {
			took, cpu = append(took, ms(d)), append(cpu, r.cpu())
		}
	}
	time.Sleep(time.Second)
	sent, lost := l.end()
	b.table.row(fmt.Sprintf(nameRestart, n, n*portsEach), milliseconds, median(took), math.NaN(), goal{value: 1000})
	b.table.row(nameRestartCPU, milliseconds, median(cpu), math.NaN(), goal{})
	b.table.row(nameRestartLost, "packets", float64(lost), math.NaN(), goal{value: 0.5})
	b.table.note("%d restarts among %d: %s, at most %.0f ms; %d packets sent meanwhile", len(took), n, spread(took), slices.Max(took), sent)
	return nil
}

// restarts is an engine of its own, whose daemon is killed.
type restarts struct {
	*engine
	world  *world
	socket string
	args   []string
	daemon *exec.Cmd
	ended  chan struct{}
	there  int
	server place
}

func (w *world) newRestarts(ctx context.Context) (r *restarts, err error) {
	host, other, err := w.host("restart")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(w.dir, "restart")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, err
	}
	r = &restarts{world: w, socket: filepath.Join(dir, "api.sock")}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}
	r.engine = &engine{name: "restart", host: host, other: other, client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
	r.args = []string{"nsenter", "--net=" + host, "--", w.binary, "daemon", "--containerd", w.ctd, "--data-root", dir + "/data", "--exec-root", dir + "/exec",
		"--pidfile", dir + "/pid", "--host", "unix://" + r.socket}
	if _, err := r.exec(ctx); err != nil {
		return nil, err
	}
	f, err := os.Open(w.archive)
	if err != nil {
		return r, err
	}
	defer f.Close()
	return r, r.do(ctx, http.MethodPost, "/images/load?quiet=1", "application/x-tar", f, nil)
}

// exec starts the daemon, and returns how long it took to answer for its containers.
func (r *restarts) exec(ctx context.Context) (time.Duration, error) {
	log, err := os.OpenFile(filepath.Join(r.world.dir, "restart.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	c := exec.Command(r.args[0], r.args[1:]...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	start := time.Now()
	if err := c.Start(); err != nil {
		return 0, err
	}
	r.daemon, r.ended = c, make(chan struct{})
	go func(ended chan struct{}) { _ = c.Wait(); close(ended) }(r.ended)
	for {
		var list []struct{ State string }
		err := r.do(ctx, http.MethodGet, "/containers/json", "", nil, &list)
		took := time.Since(start)
		if err == nil {
			if len(list) < r.there {
				return 0, fmt.Errorf("%d of %d containers run after a restart", len(list), r.there)
			}
			return took, nil
		}
		select {
		case <-r.ended:
			return 0, fmt.Errorf("the daemon ended at its start: see %s", log.Name())
		case <-time.After(2 * time.Millisecond):
		}
		if took > time.Minute || ctx.Err() != nil {
			return 0, fmt.Errorf("the daemon does not answer: %w: see %s", err, log.Name())
		}
	}
}

// cpu is the time in ms that the daemon has run so far (proc(5), stat: fields 14 and 15,
// in hundredths).
func (r *restarts) cpu() float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.daemon.Process.Pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return math.NaN()
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return float64(user+system) * 10
}

func (r *restarts) kill() {
	_ = r.daemon.Process.Kill()
	<-r.ended
}

// grow starts containers until there are n.
func (r *restarts) grow(ctx context.Context, n int) error {
	for ; r.there < n; r.there++ {
		publish := map[int]int{}
		for p := range portsEach {
			publish[20000+r.there*portsEach+p] = 10000 + p
		}
		image, cmd := "pause", []string(nil)
		if r.there == 0 {
			image, cmd = "netprobe", []string{"serve", "udp/:10000"}
		}
		id, err := r.createUDP(ctx, image, publish, cmd...)
		if err != nil {
			return err
		}
		if err := r.run(ctx, id); err != nil {
			return fmt.Errorf("container %d: %w", r.there, err)
		}
		if r.there == 0 {
			if r.server, err = r.place(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// end removes everything; the daemon stops with it.
func (r *restarts) end() {
	if err := r.clean(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	stop(r.daemon.Process, r.ended)
}

// listener sends numbered datagrams from the other machine through a published port,
// and counts which come back.
type listener struct {
	conn net.Conn
	quit chan struct{}
	done chan struct{}
	sent uint64
	back atomic.Uint64
}

func (r *restarts) listen() (*listener, error) {
	l := &listener{quit: make(chan struct{}), done: make(chan struct{})}
	dial := func() error {
		return netns.Do(r.other, func() (err error) {
			l.conn, err = net.Dial("udp", hostAddr+":20000")
			return err
		})
	}
	if err := dial(); err != nil {
		return nil, err
	}
	if err := l.hello(); err != nil {
		return nil, fmt.Errorf("the published port does not answer: %w: %s", err, r.said(r.server))
	}
	l.conn.Close()
	if err := dial(); err != nil { // late answers to the first are nobody's
		return nil, err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			if _, err := l.conn.Read(b); err != nil {
				if strings.Contains(err.Error(), "closed") {
					return
				}
				continue
			}
			l.back.Add(1)
		}
	}()
	go func() {
		defer close(l.done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := l.conn.Write(binary.BigEndian.AppendUint64(nil, l.sent)); err == nil {
					l.sent++
				}
			case <-l.quit:
				return
			}
		}
	}()
	return l, nil
}

// hello waits until the server listens.
func (l *listener) hello() (err error) {
	for range 50 {
		_ = l.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err = l.conn.Write([]byte("hello")); err == nil {
			if _, err = l.conn.Read(make([]byte, 1500)); err == nil {
				return l.conn.SetDeadline(time.Time{})
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func (l *listener) end() (sent, lost uint64) {
	close(l.quit)
	<-l.done
	time.Sleep(300 * time.Millisecond)
	l.conn.Close()
	return l.sent, l.sent - l.back.Load()
}
