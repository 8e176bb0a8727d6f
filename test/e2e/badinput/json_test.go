package badinput

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

// create is a create request with one thing in it.
func create(config, host string) string {
	if config != "" {
		config += ","
	}
	return fmt.Sprintf(`{%s"Image":"netprobe","HostConfig":{%s}}`, config, host)
}

func binding(port, ip, host string) string {
	return create("", fmt.Sprintf(`"PortBindings":{%q:[{"HostIp":%q,"HostPort":%q}]}`, port, ip, host))
}

// TestFields: values that the CLI would not send, sent by others.
func TestFields(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	for _, c := range []struct {
		name, body string
		status     int
		words      []string
	}{
		{"port that is no number", binding("http/tcp", "", "80"), 400, []string{"http"}},
		{"port too large", binding("70000/tcp", "", "80"), 400, []string{"70000"}},
		{"port 0", binding("0/tcp", "", "80"), 400, []string{"0"}},
		{"host port that is no number", binding("80/tcp", "", "http"), 400, []string{"invalid port specification", "invalid hostPort: http", "write the host's port"}},
		{"host port too large", binding("80/tcp", "", "70000"), 400, []string{"70000", "ports end at 65535"}},
		{"host port below 0", binding("80/tcp", "", "-1"), 400, []string{"-1"}},
		{"host range backwards", binding("80/tcp", "", "8010-8000"), 400, []string{"8010-8000", "ends before it begins"}},
		{"four parts", binding("80/tcp", "", "127.0.0.1::8080"), 400, []string{"127.0.0.1::8080"}},
		{"protocol", binding("80/icmp", "", "8080"), 400, []string{"icmp"}},
		{"host address", binding("80/tcp", "300.1.1.1", "8080"), 400, []string{`"300.1.1.1"`}},
		{"host name", binding("80/tcp", "localhost", "8080"), 400, []string{`"localhost"`}},
		{"MAC", `{"Image":"netprobe","MacAddress":"02:42:zz"}`, 400, []string{"invalid MAC address: 02:42:zz"}},
		{"MAC of the endpoint", `{"Image":"netprobe","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:42:zz"}}}}`, 400, []string{"02:42:zz"}},
		{"address", `{"Image":"netprobe","NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"172.17.0"}}}}}`, 400, []string{`"172.17.0"`}},
		{"address on the default bridge", `{"Image":"netprobe","NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"172.17.0.9"}}}}}`, 400,
			[]string{"user specified IP address is supported on user defined networks only"}},
		{"alias on the default bridge", `{"Image":"netprobe","NetworkingConfig":{"EndpointsConfig":{"bridge":{"Aliases":["db"]}}}}`, 400,
			[]string{"network-scoped alias is supported only for containers in user defined networks"}},
		{"env without a name", create(`"Env":["=x"]`, ""), 400, []string{"invalid environment variable: =x"}},
		{"env with a null byte", create(`"Env":["A=\u0000"]`, ""), 400, []string{"null byte"}},
		{"signal", create(`"StopSignal":"NOSUCH"`, ""), 400, []string{"NOSUCH"}},
		{"hostname", create(fmt.Sprintf(`"Hostname":%q`, strings.Repeat("a", 65)), ""), 400, []string{"invalid hostname", "the kernel takes 64"}},
		{"sysctl", create("", `"Sysctls":{"kernel.panic":"1"}`), 400, []string{"kernel.panic"}},
		{"capability", create("", `"CapAdd":["CAP_NOSUCH"]`), 400, []string{"CAP_NOSUCH"}},
		{"restart policy", create("", `"RestartPolicy":{"Name":"sometimes"}`), 400, []string{"sometimes"}},
		{"memory", create("", `"Memory":1024`), 400, []string{"Minimum memory limit"}},
		{"bind", create("", `"Binds":["relative/path:/x:ro:more:parts"]`), 400, []string{"relative/path"}},
		{"container's network without a name", create("", `"NetworkMode":"container:"`), 400, []string{"container:<name|id>"}},
		{"unknown network", create("", `"NetworkMode":"nowhere"`), 400, []string{"network nowhere not found"}},
		{"runtime", create("", `"Runtime":"nosuch"`), 400, []string{"nosuch"}},
		{"log driver", create("", `"LogConfig":{"Type":"nosuch"}`), 501, []string{"nosuch", "json-file"}},
		{"no image", `{"Cmd":["ls"]}`, 400, []string{"no image specified"}},
		{"image name", `{"Image":"UPPER"}`, 400, []string{"UPPER"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, d)
			e.api("POST", "/v1.50/containers/create", c.body).says(t, c.status, c.words...)
		})
	}
}

// endless is a request body without an end: the engine must stop reading.
type endless struct{ sent int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	if e.sent == 0 {
		copy(p, `{"Image":"`)
	}
	e.sent += len(p)
	return len(p), nil
}

// TestJSON: bodies that are no JSON, not the right JSON, or too much of it.
func TestJSON(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	d.Docker("run", "-d", "--name", "holder", "netprobe")
	e := open(t, d)
	paths := []string{"/containers/create", "/containers/holder/exec", "/networks/create", "/volumes/create", "/containers/holder/update"}
	for _, path := range paths {
		for _, body := range []string{"", "{", "[]", `"text"`, "{}{}", `{"Image":`, "\x00\xff", "<xml/>", strings.Repeat("[", 20000), `{"Cmd":{"a":1},"Name":[],"Driver":7,"RestartPolicy":3}`} {
			if path == "/volumes/create" && body == "" {
				continue // a volume with all defaults, as Docker has it
			}
			r := e.api("POST", path, body)
			if r.Status < 400 || r.Status >= 500 && r.Status != 501 || r.Message == "" {
				t.Errorf("POST %s %.40q: %d %s", path, body, r.Status, r.Body)
			}
		}
	}
	e.api("POST", paths[0], "{").says(t, 400, "invalid JSON")
	e.api("POST", paths[0], `{"Image":7}`).says(t, 400, "Image must be a string")
	e.api("POST", paths[0], `{}{}`).says(t, 400, "unexpected content after JSON")
	e.request("POST", paths[0], "text/plain", strings.NewReader("{}")).says(t, 400, "text/plain")

	t.Run("oversized", func(t *testing.T) {
		e := open(t, d)
		big := `{"Image":"netprobe","Env":["A=` + strings.Repeat("a", 40<<20) + `"]}`
		e.unread("POST", paths[0], big).says(t, http.StatusRequestEntityTooLarge, "the request body is too large")
		// Without a length the engine finds out by reading, and then stops.
		body := &endless{}
		req, err := http.NewRequest("POST", "http://docker"+paths[0], io.NopCloser(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		tr := &http.Transport{DialContext: e.dialer, DisableKeepAlives: true}
		resp, err := tr.RoundTrip(req)
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			answerOf("POST", paths[0], resp.StatusCode, b).says(t, http.StatusRequestEntityTooLarge)
		}
		if body.sent > 256<<20 {
			t.Errorf("%d bytes were read", body.sent)
		}
		if e.Docker("ps", "-q") == "" {
			t.Error("the daemon does not answer any more")
		}
	})
	for path, status := range map[string]int{"/no/such": 404, "/v1.99/containers/json": 400, "/v1.2/containers/json": 400, "/containers/json?filters=%7B": 400,
		"/containers/json?limit=x": 400, "/containers/holder/logs": 400, "/containers/json?filters=%7B%22nosuch%22%3A%7B%22a%22%3Atrue%7D%7D": 400} {
		r := e.request("GET", path, "", nil)
		if r.Status != status || r.Message == "" {
			t.Errorf("GET %s: %d %s, want %d", path, r.Status, r.Body, status)
		}
	}
}

// TestMutated: create requests with a byte or a value wrong here and there never
// end in a fault of ours, and what they did make can be removed.
func TestMutated(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	e := open(t, d)
	whole := `{"Hostname":"h","User":"0","Env":["A=b"],"Cmd":["serve","tcp/:9000"],"Image":"netprobe","Labels":{"a":"b"},"ExposedPorts":{"9000/tcp":{}},` +
		`"WorkingDir":"/","StopSignal":"SIGTERM","StopTimeout":1,"HostConfig":{"Binds":["/tmp:/x:ro"],"PortBindings":{"9000/tcp":[{"HostIp":"127.0.0.1","HostPort":"8095"}]},` +
		`"NetworkMode":"bridge","RestartPolicy":{"Name":"no","MaximumRetryCount":0},"CapAdd":["NET_ADMIN"],"Dns":["10.0.0.1"],"ExtraHosts":["a:10.0.0.2"],` +
		`"Sysctls":{"net.ipv4.ip_forward":"1"},"Ulimits":[{"Name":"nofile","Soft":10,"Hard":20}],"Memory":33554432,"Tmpfs":{"/t":"size=1m"},"ConsoleSize":[1,2]},` +
		`"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{},"Aliases":null}}}}`
	if !json.Valid([]byte(whole)) {
		t.Fatal("the seed is no JSON")
	}
	const seed = 2
	dice := rand.New(rand.NewPCG(seed, seed))
	values := []string{`null`, `7`, `-1`, `""`, `"x"`, `[]`, `{}`, `true`, `1e99`, `[null]`, `{"":null}`, `"\u0000"`, `18446744073709551616`}
	var spots []int // after each colon that begins a value
	for i := range whole {
		if whole[i] == ':' && i > 0 && whole[i-1] == '"' {
			spots = append(spots, i+1)
		}
	}
	seen := map[int]int{}
	for i := range 700 {
		b := whole
		if i < len(spots)*len(values) { // every value at every place
			at := spots[i%len(spots)]
			v := values[(i/len(spots)+dice.IntN(len(values)))%len(values)]
			b = whole[:at] + v + whole[at+valueLen(whole[at:]):]
		} else {
			raw := []byte(whole)
			for range 1 + dice.IntN(3) {
				raw[dice.IntN(len(raw))] = byte(dice.IntN(256))
			}
			b = string(raw)
		}
		r := e.api("POST", "/containers/create", b)
		seen[r.Status]++
		switch {
		case r.Status == 201:
			var made struct{ ID string }
			if err := json.Unmarshal([]byte(r.Body), &made); err != nil {
				t.Fatal(err)
			}
			if gone := e.api("DELETE", "/containers/"+made.ID+"?force=1&v=1", ""); gone.Status != 204 {
				t.Errorf("%s\ncannot be removed: %+v", b, gone)
			}
		case r.Status < 400 || r.Status >= 500 && r.Status != 501, r.Message == "":
			t.Errorf("%s\n%d %s", b, r.Status, r.Body)
		}
	}
	t.Logf("seed %d: answers by status: %v", seed, seen)
}

// valueLen is the length of the JSON value at the beginning of s.
func valueLen(s string) int {
	dec := json.NewDecoder(strings.NewReader(s))
	var v json.RawMessage
	if dec.Decode(&v) != nil {
		return 0
	}
	return len(v)
}

// endpoint is a create request with an endpoint on the network "taken".
func endpoint(settings string) string {
	return `{"Image":"netprobe","HostConfig":{"NetworkMode":"taken"},"NetworkingConfig":{"EndpointsConfig":{"taken":` + settings + `}}}`
}

// pool is a network of one pool.
func pool(config string) string { return `{"Name":"new","IPAM":{"Config":[` + config + `]}}` }

func joining(settings string) string {
	return `{"Container":"holder","EndpointConfig":` + settings + `}`
}

// TestNetworkFields: of networks and endpoints, what the CLI would not send.
func TestNetworkFields(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	d.Docker("network", "create", "--subnet", "172.30.0.0/24", "--ipv6", "--subnet", "fd00:30::/64", "taken")
	d.Docker("run", "-d", "--name", "holder", "netprobe")
	const make, con, dis, run = "/networks/create", "/networks/taken/connect", "/networks/taken/disconnect", "/containers/create"
	for _, c := range []struct {
		path, body string
		status     int
		words      []string
	}{
		{make, `{"Name":""}`, 400, []string{"invalid network name: the name is empty"}},
		{make, `{"Name":"new","Driver":7}`, 400, []string{"Driver must be a string, not number"}},
		{make, `{"Name":"new","ConfigOnly":7}`, 400, []string{"ConfigOnly must be true or false, not number"}},
		{make, `{"Name":"new","Options":{"com.docker.network.driver.mtu":1}}`, 400, []string{"Options must be a string, not number"}},
		{make, `{"Name":"` + strings.Repeat("n", 300) + `"}`, 400, []string{"it has 300 characters; give at most 255"}},
		{make, `{"Name":"new\n"}`, 400, []string{`invalid network name "new\n": character '\n' is not allowed`}},
		{make, `{"Name":"new","Scope":"global"}`, 501, []string{`scope "global" is of several`, "leave --scope away"}},
		{make, pool(`{"Gateway":"172.31.0.1"}`), 400, []string{"every ip-range, gateway or auxiliary address must have a corresponding subnet; add --subnet"}},
		{make, pool(`{"Subnet":"172.31.0.0/24","Gateway":"172.31.1.1"}`), 400, []string{"invalid gateway 172.31.1.1: parent subnet 172.31.0.0/24 doesn't contain this address; choose one of its addresses, like 172.31.0.1"}},
		{make, pool(`{"Subnet":"172.31.0.0/24","Gateway":"x"}`), 400, []string{"invalid gateway x: it must be an IP address"}},
		{make, pool(`{"Subnet":"172.31.0.0/24","IPRange":"172.31.1.0/25"}`), 400, []string{"parent subnet 172.31.0.0/24 doesn't contain ip-range; give a part of the subnet"}},
		{make, pool(`{"Subnet":"172.31.0.0/24","IPRange":"x"}`), 400, []string{"invalid ip-range x"}},
		{make, pool(`{"Subnet":"172.31.0.0/24","AuxiliaryAddresses":{"a":"172.31.1.1"}}`), 400, []string{"invalid auxiliary address a=172.31.1.1: parent subnet 172.31.0.0/24 doesn't contain this address"}},
		{make, pool(`{"Subnet":"172.31.0.0/24","AuxiliaryAddresses":{"a":"x"}}`), 400, []string{"invalid aux-address a x: it must be an IP address"}},
		{make, pool(`{"Subnet":"172.31.0.0/24"},{"Subnet":"172.31.0.0/25"}`), 400, []string{"doesn't support multiple subnets of one family: 172.31.0.0/24 and 172.31.0.0/25"}},
		{con, `{}`, 400, []string{"the request names no container to connect to network taken"}},
		{con, `{"Container":7}`, 400, []string{"Container must be a string, not number"}},
		{con, joining(`{"IPAMConfig":{"IPv4Address":"x"}}`), 400, []string{`invalid IP address "x"`, "write it like 172.17.0.9"}},
		{con, joining(`{"IPAMConfig":{"LinkLocalIPs":["x"]}}`), 400, []string{`invalid IP address "x"`}},
		{con, joining(`{"Aliases":[""]}`), 400, []string{`network taken: the alias "" is no name`}},
		{con, joining(`{"Links":["a:b:c"]}`), 400, []string{"bad format for links: a:b:c"}},
		{con, joining(`{"MacAddress":"zz"}`), 400, []string{"address zz: invalid MAC address"}},
		{con, joining(`{"MacAddress":"01:00:5e:00:00:01"}`), 400, []string{"01:00:5e:00:00:01 is a group's"}},
		{"/networks/nowhere/connect", joining(`{}`), 404, []string{"network nowhere not found"}},
		{dis, `{}`, 400, []string{"the request names no container to disconnect from network taken"}},
		{dis, `{"Container":"nobody"}`, 404, []string{"No such container: nobody"}},
		{run, endpoint(`{"Links":["nobody:"]}`), 400, []string{"bad format for links: nobody:"}},
		{run, endpoint(`{"Aliases":["a b"]}`), 400, []string{`network taken: the alias "a b" is no name`}},
		{run, endpoint(`{"DriverOpts":{"x":"y"}}`), 400, []string{"an endpoint on network taken", `no driver option "x"`}},
		{run, endpoint(`{"IPAMConfig":{"IPv6Address":"fd00:30::1"}}`), 409, []string{"Address already in use: fd00:30::1 is the gateway of network taken; choose another address"}},
		{run, endpoint(`{"MacAddress":"00:00:00:00:00:00"}`), 400, []string{"it is all zero; leave it away to have one chosen"}},
		{run, create("", `"Dns":["x"]`), 400, []string{`invalid IP address "x"`}},
		{run, create("", `"DnsSearch":["a\nnameserver 1.2.3.4"]`), 400, []string{`invalid dns-search "a\nnameserver 1.2.3.4"`, "write it on one line"}},
		{run, create("", `"DnsOptions":["a\nnameserver 1.2.3.4"]`), 400, []string{"invalid dns-option"}},
		{run, create("", `"ExtraHosts":["x"]`), 400, []string{`bad format for add-host: "x"`}},
		{run, create("", `"ExtraHosts":["x:y"]`), 400, []string{`invalid IP address in add-host: "y"`}},
		{run, create("", `"ExtraHosts":["a\n1.2.3.4 b:1.2.3.5"]`), 400, []string{"invalid add-host"}},
		{run, create("", `"Links":["holder:a\nb"]`), 400, []string{"invalid link"}},
		{run, create(`"Hostname":"a\nb"`, ""), 400, []string{"invalid hostname"}},
		{run, create(`"Domainname":"a\nb"`, ""), 400, []string{"invalid domainname"}},
		{run, create(`"Healthcheck":{"Test":["NOSUCH","x"]}`, ""), 400, []string{"Unknown healthcheck type 'NOSUCH' (expected 'CMD', 'CMD-SHELL' or 'NONE')"}},
		{run, create(`"Healthcheck":{"Test":["CMD"]}`, ""), 400, []string{"the health check of kind CMD has no command"}},
		{run, create(`"Healthcheck":{"Test":["CMD","x"],"Interval":-1}`, ""), 400, []string{"Interval in Healthcheck cannot be less than 1ms"}},
		{run, create(`"Healthcheck":{"Test":["CMD","x"],"Timeout":100}`, ""), 400, []string{"Timeout in Healthcheck cannot be less than 1ms"}},
		{run, create(`"Healthcheck":{"Test":["CMD","x"],"Retries":-1}`, ""), 400, []string{"Retries in Healthcheck cannot be negative"}},
	} {
		t.Run(c.path+" "+c.body[:min(len(c.body), 60)], func(t *testing.T) {
			e := open(t, d)
			e.clean()
			e.api("POST", "/v1.50"+c.path, c.body).says(t, c.status, c.words...)
		})
	}
}
