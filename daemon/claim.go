package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"linkspan/cnm"
	"linkspan/config"
)

// claimName is an abstract unix socket: such names belong to a network
// namespace and go with their process (unix(7)), which is just what "one daemon
// in one namespace" needs.
const claimName = "@linkspan-daemon"

// claimNamespace refuses a second daemon in this network namespace: both would
// answer for the same ports and bridges.
func claimNamespace(cfg *config.Config) (release func(), err error) {
	l, err := net.Listen("unix", claimName)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, cnm.Conflict("a Linkspan daemon runs in this network namespace already (%s); stop it, or start this one in a namespace of its own: nsenter --net=/run/netns/NAME linkspan daemon …", holder())
	}
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "pid %d, data root %s", os.Getpid(), cfg.DataRoot)
			c.Close()
		}
	}()
	return func() { l.Close() }, nil
}

// holder asks the daemon that is there who it is.
func holder() string {
	c, err := net.DialTimeout("unix", claimName, time.Second)
	if err != nil {
		return "it does not say which"
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	b := make([]byte, 4096)
	n, _ := c.Read(b)
	return strings.TrimSpace(string(b[:n]))
}

func addresses(ls []net.Listener) []string {
	var out []string
	for _, l := range ls {
		out = append(out, l.Addr().Network()+"://"+l.Addr().String())
	}
	return out
}
