package config

import (
	"slices"
	"strings"
	"testing"
)

func TestMesh(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, c := range []struct{ args, file, want, wrong string }{
		{args: "", want: ""},
		{args: "--mesh etcd://10.0.0.5:2379,10.0.0.6:2379", want: "10.0.0.5:2379 10.0.0.6:2379"},
		{args: "--mesh etcd://10.0.0.5,etcd.example.org", want: "10.0.0.5:2379 etcd.example.org:2379"},
		{args: "--mesh etcd://[fd00::5]:2379,[fd00::6]/", want: "[fd00::5]:2379 [fd00::6]:2379"},
		{args: "--mesh etcd://10.0.0.5:2379,etcd://10.0.0.6:2379", want: "10.0.0.5:2379 10.0.0.6:2379"},
		{file: `{"mesh":"etcd://10.0.0.5:2379","mesh-ports":{"gate":3380}}`, want: "10.0.0.5:2379"},
		{args: "--mesh 10.0.0.5:2379", wrong: `no etcd cluster; want etcd://`},
		{args: "--mesh http://10.0.0.5:2379", wrong: `no etcd cluster`},
		{args: "--mesh etcd://fd00::5", wrong: "in brackets"},
		{args: "--mesh etcd://10.0.0.5:http", wrong: `"http" is no port`},
		{args: "--mesh etcd://10.0.0.5:0", wrong: `"0" is no port`},
		{args: "--mesh etcd://,", wrong: "neither an address nor a host's name"},
		{args: "--mesh etcd://a,a:2379", wrong: "a:2379 is named twice"},
		{args: "--mesh-listen 10.0.0.1", wrong: "--mesh names none"},
		{args: "--mesh-name host1", wrong: "linkspan mesh init or join"},
		{args: "--mesh-ca /ca.pem", wrong: "--mesh names none"},
		{args: "--mesh etcd://a --mesh-cert /c.pem", wrong: "belong together"},
		{args: "--mesh etcd://a --mesh-cert /c.pem --mesh-key /k.pem", wrong: "mesh-ca is missing"},
		{args: "--mesh etcd://a --mesh-user linkspan", wrong: "mesh-user and mesh-password-file belong together"},
		{args: "--mesh-user linkspan --mesh-password-file /p", wrong: "mesh-user is about an etcd cluster that exists already"},
		{args: "--mesh etcd://a --mesh-listen 0.0.0.0", wrong: "every address"},
		{args: "--mesh etcd://a --mesh-listen 224.0.0.1", wrong: "a group's address"},
		{args: "--mesh etcd://a --mesh-listen eth0", wrong: "eth0"},
		{args: "--mesh etcd://a --mesh-name " + long, wrong: "no host name"},
		{args: "--mesh etcd://a --mesh-name a/b", wrong: "no host name"},
		{args: "--mesh-port gates=1", wrong: `no port "gates": check, etcd, etcd-peer, gate,`},
		{args: "--mesh-port gate", wrong: "want name=number"},
		{args: "--mesh-port gate=70000", wrong: `"70000" is no port`},
		{args: "--mesh-port gate=2379", wrong: "etcd and gate are both 2379"},
		{args: "--mesh-port check=4789", wrong: "check and vxlan are both 4789"},
		{args: "--mesh-port gate=4789", want: ""}, // TCP and UDP do not meet
		{file: `{"mesh-ports":{"gate":"x"}}`, wrong: "number"},
	} {
		r, err := with("linkspan", c.file, strings.Fields(c.args)...)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), "mesh") {
				t.Errorf("%s%s: %v, want %q", c.args, c.file, err, c.wrong)
			}
		case err != nil:
			t.Errorf("%s%s: %v", c.args, c.file, err)
		default:
			if got := strings.Join(r.Config.MeshEndpoints(), " "); got != c.want {
				t.Errorf("%s%s: %q, want %q", c.args, c.file, got, c.want)
			}
		}
	}
}

func TestMeshPort(t *testing.T) {
	r, err := with("linkspan", `{"mesh-ports":{"gate":3380,"vxlan":8472}}`)
	if err != nil {
		t.Fatal(err)
	}
	got := []uint16{}
	for _, n := range []string{"gate", "etcd", "etcd-peer", "check", "vxlan", "vxlan-secure", "wireguard"} {
		got = append(got, r.Config.MeshPort(n))
	}
	if want := []uint16{3380, 2379, 2381, 2382, 8472, 4790, 51871}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if r, err = with("linkspan", "", "--mesh-port", "check=9", "--mesh-port", "gate=10"); err != nil || r.Config.MeshPort("check") != 9 || r.Config.MeshPort("gate") != 10 {
		t.Errorf("%+v, %v", r, err)
	}
}
