package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/ui"
)

const uiAbout = `Serve a page to look at in a browser, until Ctrl-C: the live picture of the host's
networks, the explanation of each thing in it, why one end does not reach another, flows,
drops, and the doctor's findings. It is read-only, and asks the daemon as the verbs do.

The page has no login: it is served on the loopback, where everyone on this host can read
it, or on a unix socket, which only who started it can. From another machine:
ssh -L 7700:127.0.0.1:7700 root@HOST, then http://localhost:7700/.

Exit code: 0 it was ended; 1 it could not be served, or no daemon answers.`

const uiExample = `
  # linkspan ui
  http://127.0.0.1:7700/ (Ctrl-C ends it)
`

// runUI is `linkspan ui`.
func runUI(args []string) int {
	addr := ""
	q := &question{name: "ui", about: uiAbout, example: uiExample, noJSON: true, flags: func(f *pflag.FlagSet) {
		f.StringVar(&addr, "addr", "127.0.0.1:7700", "Where: an address of the loopback with a port (0: any), or unix:///path")
	}}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		if _, err := c.Graph(ctx); err != nil {
			return 1, err // better now than on every page
		}
		l, url, err := ui.Listen(addr)
		if err != nil {
			return 1, err
		}
		fmt.Println(url + " (Ctrl-C ends it)")
		srv := &http.Server{Handler: ui.New(c, nil), ReadHeaderTimeout: 10 * time.Second}
		go func() {
			<-ctx.Done()
			bounded, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if srv.Shutdown(bounded) != nil {
				_ = srv.Close()
			}
		}()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return 1, err
		}
		return 0, nil
	}
	return q.run(args)
}
