package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
)

// runPlan is `linkspan plan run …`. It lets docker's own run command make the
// request, so that every flag means the same, and has the daemon plan it instead
// of create it.
func runPlan(args []string) int {
	flags := pflag.NewFlagSet("plan", pflag.ContinueOnError)
	flags.SetInterspersed(false)
	host := flags.StringP("host", "H", "", "Daemon socket to connect to")
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "Usage: linkspan plan run [docker run's flags] IMAGE [COMMAND]\n\nShow what a docker run would make in the kernel, as ip and nft lines, and make nothing.\n\n%s", flags.FlagUsages())
	}
	if code, ok := parsed(flags.Parse(args)); !ok {
		return code
	}
	if flags.NArg() == 0 || flags.Arg(0) != "run" && flags.Arg(0) != "create" {
		fmt.Fprintf(os.Stderr, "linkspan plan: what would be planned? Say: linkspan plan run [flags] IMAGE\n")
		return 1
	}
	ctx, stop := signalContext(context.Background())
	defer stop()
	client, err := daemonClient(ctx, flags, *host)
	if err != nil {
		return failed(err)
	}
	p := &planner{client: client}
	dir, err := os.MkdirTemp("", "linkspan-plan-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return failed(err)
	}
	defer l.Close()
	go http.Serve(l, p)

	out := os.Stdout
	if os.Stdout, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil { // run prints an id
		return failed(err)
	}
	run := slices.Concat([]string{"-H", "unix://" + l.Addr().String(), "run", "-d"}, flags.Args()[1:])
	code := runDocker("docker", run)
	os.Stdout = out
	if p.plan == nil {
		return max(code, 1)
	}
	if err := p.plan.WriteText(out); err != nil {
		return failed(err)
	}
	return 0
}

// planner stands between docker's run command and the daemon: it passes on what
// only asks, plans what would create, and makes nothing.
type planner struct {
	client *http.Client
	plan   *admin.Plan
}

var (
	createPath = regexp.MustCompile(`^(/v[0-9.]+)?/containers/create$`)
	pullPath   = regexp.MustCompile(`^(/v[0-9.]+)?/images/create$`)
	startPath  = regexp.MustCompile(`^(/v[0-9.]+)?/containers/[^/]+/start$`)
	waitPath   = regexp.MustCompile(`^(/v[0-9.]+)?/containers/[^/]+/wait$`)
)

func (p *planner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch path := r.URL.Path; {
	case createPath.MatchString(path):
		p.create(w, r)
	case pullPath.MatchString(path):
		refuse(w, http.StatusNotFound, "the image is not here yet and a plan pulls nothing: docker pull it first")
	case startPath.MatchString(path):
		w.WriteHeader(http.StatusNoContent)
	case waitPath.MatchString(path):
		io.WriteString(w, `{"StatusCode":0}`)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		proxy := httputil.ReverseProxy{Transport: p.client.Transport, Rewrite: func(q *httputil.ProxyRequest) {
			q.Out.URL.Scheme, q.Out.URL.Host = "http", "linkspan"
		}}
		proxy.ServeHTTP(w, r)
	default:
		refuse(w, http.StatusForbidden, "a plan makes nothing: "+r.Method+" "+path+" is not passed on")
	}
}

func (p *planner) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	plan, err := admin.Client{HTTP: p.client}.Plan(r.Context(), r.URL.Query().Get("name"), body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	p.plan = plan
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"Id":"planned","Warnings":[]}`)
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]string{"message": message})
}
