package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// result is what a load tells, as JSON.
type result struct {
	PerSecond float64
	P50, P99  float64 // microseconds
	Lost      int     // no answer within a second
	Wrong     int     // answers without an address
}

// loadFrom asks for the names in turn, over some sockets, each with some questions
// under way: the next follows an answer.
func loadFrom(at netip.AddrPort, n int, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("load: seconds, sockets, outstanding")
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return err
	}
	sockets, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	outstanding, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	domain := ""
	if len(args) > 3 {
		domain = args[3]
	}
	// The first third warms up.
	start := time.Now()
	warm, end := start.Add(time.Duration(seconds*float64(time.Second)/3)), start.Add(time.Duration(seconds*float64(time.Second)*4/3))
	loads := make([]load, sockets)
	var wg sync.WaitGroup
	for i := range loads {
		l := &loads[i]
		l.asks = questions(n, domain)
		l.next = i * n / sockets
		wg.Go(func() { l.err = l.run(at, outstanding, warm, end) })
	}
	wg.Wait()
	var all result
	var took []uint32
	for i := range loads {
		if loads[i].err != nil {
			return loads[i].err
		}
		took = append(took, loads[i].took...)
		all.Lost += loads[i].lost
		all.Wrong += loads[i].wrong
	}
	slices.Sort(took)
	if len(took) > 0 {
		all.PerSecond = float64(len(took)) / end.Sub(warm).Seconds()
		all.P50 = float64(took[len(took)/2]) / 1000
		all.P99 = float64(took[len(took)*99/100]) / 1000
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// questions are the messages, ready but for the id.
func questions(n int, domain string) [][]byte {
	asks := make([][]byte, n)
	for i := range asks {
		b := []byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		for label := range strings.SplitSeq(strings.Trim(fmt.Sprintf("name%d.%s", i, domain), "."), ".") {
			b = append(append(b, byte(len(label))), label...)
		}
		asks[i] = append(b, 0, 0, 1, 0, 1)
	}
	return asks
}

// load is one socket's part. It makes plain system calls: the client should cost as
// little as it can, as it has the same two processors as the server.
type load struct {
	asks        [][]byte
	next        int
	sent        [1 << 16]time.Time
	took        []uint32 // nanoseconds
	lost, wrong int
	err         error
}

func (l *load) run(at netip.AddrPort, outstanding int, warm, end time.Time) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return err
	}
	second := syscall.Timeval{Sec: 1}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &second); err != nil {
		return err
	}
	id := uint16(rand.Uint32())
	send := func() error {
		ask := l.asks[l.next%len(l.asks)]
		l.next++
		id++
		binary.BigEndian.PutUint16(ask, id)
		l.sent[id] = time.Now()
		_, err := syscall.Write(fd, ask)
		return err
	}
	for range outstanding {
		if err := send(); err != nil {
			return err
		}
	}
	buf := make([]byte, 4096)
	l.took = make([]uint32, 0, 1<<20)
	for {
		n, err := syscall.Read(fd, buf)
		now := time.Now()
		if !now.Before(end) {
			return nil
		}
		if err == syscall.EAGAIN {
			l.lost += outstanding
			for range outstanding {
				if err := send(); err != nil {
					return err
				}
			}
			continue
		}
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n < 12 {
			return fmt.Errorf("an answer of %d bytes", n)
		}
		if buf[3]&0xf != 0 || binary.BigEndian.Uint16(buf[6:]) == 0 {
			l.wrong++
		}
		if now.After(warm) {
			l.took = append(l.took, uint32(now.Sub(l.sent[binary.BigEndian.Uint16(buf)])))
		}
		if err := send(); err != nil {
			return err
		}
	}
}
