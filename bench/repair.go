package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// nameRepair is one kind of damage.
const nameRepair = "repair: %s, p99"

// A repair is measured from before the command that does the damage (its start, a few
// milliseconds, counts) to the event that tells of the repair. Who breaks one object more
// than once a second is taken for a program that fights, so the victims take turns; of
// what there is one each host only, there are fewer runs.
const (
	repairVictims = 16
	repairPause   = 1300 * time.Millisecond
	repairSingles = 40
)

// damage is done to one victim: BR and VETH are its bridge and its wire, IN runs inside
// its container, N is its number, TABLE our table.
type damage struct {
	name, line string
	object     string // that comes back, in the event
	single     bool   // there is one of it only
}

var damages = []damage{
	{"nft flush ruleset", "nft flush ruleset", "table inet TABLE", true},
	{"nft delete table", "nft delete table inet TABLE", "table inet TABLE", true},
	{"nft flush chain", "nft flush chain inet TABLE publish", "table inet TABLE", true},
	{"rule added to our chain", "nft insert rule inet TABLE forward counter", "table inet TABLE", true},
	{"element deleted", "nft delete element inet TABLE publish4_any { tcp . 2700N }", "element inet TABLE publish4_any { tcp . 2700N }", false},
	{"bridge deleted", "ip link del BR", "link BR", false},
	{"veth deleted", "ip link del VETH", "link VETH", false},
	{"veth deleted from inside", "IN ip link del eth0", "link VETH", false},
	{"bridge's address deleted", "ip addr del 10.66.N.1/24 dev BR", "addr BR 10.66.N.1/24", false},
	{"bridge's route deleted", "ip route del 10.66.N.0/24 dev BR", "addr BR 10.66.N.1/24", false},
	{"port out of its bridge", "ip link set VETH nomaster", "link VETH", false},
	{"wire down", "ip link set VETH down", "up VETH", false},
	{"bridge down", "ip link set BR down", "up BR", false},
	{"wire's MTU", "ip link set VETH mtu 1400", "link VETH", false},
	{"port isolated", "bridge link set dev VETH isolated on", "link VETH", false},
	{"ip_forward off", "sysctl -qw net.ipv4.ip_forward=0", "sysctl net/ipv4/ip_forward", true},
	{"route_localnet off", "sysctl -qw net.ipv4.conf.BR.route_localnet=0", "sysctl net/ipv4/conf/BR/route_localnet", false},
}

// repair measures how long what somebody takes away is gone.
func (b *bench) repair(ctx context.Context) error {
	if b.repairs == 0 || !slices.ContainsFunc(damages, func(d damage) bool { return b.wanted(fmt.Sprintf(nameRepair, d.name)) }) {
		return nil
	}
	r, err := newRepairs(ctx, b.world.ours)
	if err != nil {
		return err
	}
	defer r.end(context.WithoutCancel(ctx))
	for _, d := range damages {
		if !b.wanted(fmt.Sprintf(nameRepair, d.name)) {
			continue
		}
		took, err := r.measure(ctx, d, b.repairs)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		slices.Sort(took)
		b.table.row(fmt.Sprintf(nameRepair, d.name), milliseconds, took[(len(took)*99-1)/100], math.NaN(), goal{value: 100})
		b.table.note("%s: %d runs, p50 %.1f ms, at most %.1f ms", d.name, len(took), took[len(took)/2], took[len(took)-1])
	}
	return nil
}

// repairs are the victims, on an engine of the bench.
type repairs struct {
	*engine
	victims []*strings.Replacer
	nets    []string
	events  chan told
	stop    context.CancelFunc
}

// told is a repair, as the engine tells it.
type told struct {
	object string
	at     time.Time
}

func newRepairs(ctx context.Context, e *engine) (r *repairs, err error) {
	r = &repairs{engine: e, events: make(chan told, 10000)}
	for n := range repairVictims {
		if err := r.victim(ctx, n); err != nil {
			return r, err
		}
	}
	ctx, r.stop = context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/"+apiVersion+"/events?filters="+url.QueryEscape(`{"event":["repair"]}`), nil)
	if err != nil {
		return r, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return r, err
	}
	go func() {
		defer resp.Body.Close()
		for dec := json.NewDecoder(resp.Body); ; {
			var e struct {
				TimeNano int64 `json:"timeNano"`
				Actor    struct{ Attributes map[string]string }
			}
			if dec.Decode(&e) != nil {
				return
			}
			r.events <- told{e.Actor.Attributes["object"], time.Unix(0, e.TimeNano)}
		}
	}()
	return r, nil
}

// victim makes one network with one container.
func (r *repairs) victim(ctx context.Context, n int) error {
	br, port := fmt.Sprintf("rp%d", n), 27000+n
	body, err := json.Marshal(object{"Name": br, "Driver": "bridge", "Options": object{"com.docker.network.bridge.name": br},
		"IPAM": object{"Config": []object{{"Subnet": fmt.Sprintf("10.66.%d.0/24", n), "Gateway": fmt.Sprintf("10.66.%d.1", n)}}}})
	if err != nil {
		return err
	}
	if err := r.do(ctx, http.MethodPost, "/networks/create", "application/json", bytes.NewReader(body), nil); err != nil {
		return err
	}
	r.nets = append(r.nets, br)
	id, err := r.create(ctx, "pause", br, map[int]int{port: 80})
	if err == nil {
		err = r.run(ctx, id)
	}
	if err != nil {
		return err
	}
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ EndpointID string }
		}
	}
	if err := r.do(ctx, http.MethodGet, "/containers/"+id+"/json", "", nil, &c); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "nsenter", "--net="+r.host, "nft", "list", "tables", "inet").Output()
	if err != nil {
		return err
	}
	table := ""
	for _, w := range strings.Fields(string(out)) {
		if strings.HasPrefix(w, "linkspan_") && !strings.HasSuffix(w, "_hooks") {
			table = w
		}
	}
	r.victims = append(r.victims, strings.NewReplacer("TABLE", table, "BR", br, "VETH", "veth"+c.NetworkSettings.Networks[br].EndpointID[:7],
		"IN ", fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", c.State.Pid), "2700N", fmt.Sprint(port), ".N.", fmt.Sprintf(".%d.", n)))
	return nil
}

// measure does the damage as often, and returns how long each was there in milliseconds.
func (r *repairs) measure(ctx context.Context, d damage, runs int) (took []float64, err error) {
	pause := repairPause / repairVictims
	if d.single {
		pause, runs = repairPause, min(runs, repairSingles)
	}
	for i := range runs {
		v := r.victims[i%len(r.victims)]
		if d.single {
			v = r.victims[0]
		}
		object := v.Replace(d.object)
		for len(r.events) > 0 {
			<-r.events
		}
		start := time.Now()
		cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + r.host}, strings.Fields(v.Replace(d.line))...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		for late := time.After(10 * time.Second); len(took) == i; {
			select {
			case e := <-r.events:
				if e.object == object && e.at.After(start) {
					took = append(took, ms(e.at.Sub(start)))
				}
			case <-late:
				return nil, fmt.Errorf("run %d: nothing is told of %s", i, object)
			}
		}
		time.Sleep(max(0, pause-time.Since(start)))
	}
	return took, nil
}

func (r *repairs) end(ctx context.Context) {
	if r.stop != nil {
		r.stop()
	}
	_ = r.clean(ctx)
	for _, n := range r.nets {
		_ = r.do(ctx, http.MethodDelete, "/networks/"+n, "", nil, nil)
	}
}
