package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/config"
	"linkspan/mesh/host"
)

const meshHelp = `Usage: linkspan mesh COMMAND

Networks that span hosts: the hosts of a mesh share networks, names and addresses.

Commands:
  init      Make a mesh, and print what to type at the next host
  join      Join this host to a mesh
  leave     Take this host out of its mesh, and leave nothing behind
  status    Hosts, the path to each, MTU, RTT, loss; etcd, certificate, what waits
  check     Send full-size probes between all hosts, and say what does not pass
  token     Join tokens: create, ls, revoke
  promote   Have a host run etcd for the mesh
  demote    Have a host run etcd no more
  forget    Give back what a host that is gone for good held
  rotate    Give this host new keys for encrypted networks
  backup    Write all that the mesh has in common into a file
  restore   Make the mesh again from such a file

Each has --help with an example. The daemon does it while it runs; containers and their
connections go on.

Example:

  host1# linkspan mesh init --listen 10.0.0.1
  mesh 7d2f6b1c is made; this host is host1 at 10.0.0.1 and runs its etcd

  At another host, within 24 hours:

      linkspan mesh join 10.0.0.1:2380 --token lsm1-…

  host2# linkspan mesh join 10.0.0.1:2380 --token lsm1-…
  this host is host2 at 10.0.0.2 in mesh 7d2f6b1c

  host1# linkspan network create -d overlay shop
  host1# linkspan run -d --name c1 --network shop redis
  host2# linkspan run -it --rm --network shop busybox ping c1
`

// meshVerbs are the words after `linkspan mesh`.
func meshVerbs() map[string]func([]string) int {
	return map[string]func([]string) int{
		"init": meshInit, "join": meshJoin, "leave": meshLeave, "status": meshStatus, "check": meshCheck, "token": meshToken,
		"promote": meshRole("promote"), "demote": meshRole("demote"), "forget": meshForget, "rotate": meshRotate,
		"backup": meshBackup, "restore": meshRestore,
	}
}

// runMesh is `linkspan mesh`.
func runMesh(args []string) int {
	return among("mesh", meshHelp, meshVerbs(), args)
}

// among runs the verb that the first argument names.
func among(of, help string, verbs map[string]func([]string) int, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, help)
		return 1
	}
	if v, ok := verbs[args[0]]; ok {
		return v(args[1:])
	}
	if args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		fmt.Print(help)
		return 0
	}
	names := slices.Sorted(maps.Keys(verbs))
	hint := ""
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("; did you mean linkspan %s %s?", of, near)
	}
	fmt.Fprintf(os.Stderr, "linkspan %s: there is no command %q%s It has %s\n", of, args[0], orDot(hint), strings.Join(names, ", "))
	return 1
}

func orDot(hint string) string {
	if hint == "" {
		return "."
	}
	return hint
}

func meshInit(args []string) int {
	var r host.InitRequest
	q := &question{name: "mesh init", about: `Make a mesh: this host runs its etcd, with a certificate authority of the mesh's own, and
lets others in who have a token. When there are enough hosts, two more (--members) run
etcd too, so that losing one of them changes nothing.
Exit code: 0 it is made; 1 it is not, and why.`,
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&r.Listen, "listen", "", "This host's own address on the wire that the hosts share")
			f.StringVar(&r.Name, "name", "", "This host's name in the mesh (default: the host name)")
			f.IntVar(&r.Voters, "members", 0, "How many hosts shall run etcd, as soon as there are so many: 1, 3 or 5 (default 3)")
			f.DurationVar(&r.TTL, "ttl", 0, "How long the join token holds (default 24h)")
		},
		example: `
  # linkspan mesh init --listen 10.0.0.1
  mesh 7d2f6b1c is made; this host is host1 at 10.0.0.1 and runs its etcd

  At another host, within 24 hours:

      linkspan mesh join 10.0.0.1:2380 --token lsm1-…
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		return answered(q)(c.MeshInit(ctx, r))
	}
	return q.run(args)
}

func meshJoin(args []string) int {
	var r host.JoinRequest
	q := &question{name: "mesh join", usage: "HOST[:PORT] --token TOKEN", least: 1, most: 1,
		about: `Join this host to the mesh of HOST. The token says which mesh is meant: another one, or
somebody in between, is refused. Said again after an interruption, it goes on.
Exit code: 0 it is in; 1 it is not, and why.`,
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&r.Token, "token", "", "What linkspan mesh init or linkspan mesh token create printed")
			f.StringVar(&r.Listen, "listen", "", "This host's own address on the wire that the hosts share (default: that of the route to HOST)")
			f.StringVar(&r.Name, "name", "", "This host's name in the mesh (default: the host name)")
		},
		example: `
  # linkspan mesh join 10.0.0.1:2380 --token lsm1-…
  this host is host2 at 10.0.0.2 in mesh 7d2f6b1c
`}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		r.Gate = args[0]
		return answered(q)(c.MeshJoin(ctx, r))
	}
	return q.run(args)
}

func meshLeave(args []string) int {
	force := false
	q := &question{name: "mesh leave", about: `Take this host out of its mesh. Its addresses, names and blocks are given back, and its
keys and certificates removed. Containers on networks of the mesh have to be stopped or
disconnected first; all else goes on.
Exit code: 0 it is out; 1 it is not, and why.`,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&force, "force", false, "Leave although etcd cannot be reached, or containers are on networks of the mesh")
		},
		example: `
  # linkspan mesh leave
  this host has left mesh 7d2f6b1c
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		return answered(q)(c.MeshLeave(ctx, force))
	}
	return q.run(args)
}

func meshStatus(args []string) int {
	quick := false
	q := &question{name: "mesh status", about: `Tell the mesh as this host sees it: its hosts, the path that packets take to each and what
fits through it, round trips and loss, the health of etcd, what waits to be written, and
when the certificate ends. What is not as it should be comes in words, with the cure.
Exit code: 0 all is well; 2 something is not; 1 it cannot be told.`,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&quick, "no-probes", false, "Send no probes: answer at once, without RTT and loss")
		},
		example: `
  # linkspan mesh status
  mesh 7d2f6b1c: 2 hosts
  this host: host2 at 10.0.0.2 (eth0, MTU 1500), a client of the members' etcd
  etcd: healthy, 1 of 1 member answer
    host1 (10.0.0.1:2379): leader, etcd 3.6.16, 0.1 MB of 2048.0 MB
  certificate: valid until 2027-02-19 14:40, renewed by itself from 2027-01-20

  HOST   ADDRESS   ROLE    ALIVE      NETWORKS   PATH             MTU   RTT     LOSS
  host1  10.0.0.1  member  yes        overlay    vxlan (eth0)     1450  210µs   0 %
                                      routed     direct (eth0)    1500  180µs   0 %
                                      encrypted  wireguard (eth0) 1390  350µs   0 %
  host2  10.0.0.2  client  this host  -          -                -     -       -
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		s, err := c.MeshStatus(ctx, !quick)
		if err != nil {
			return 1, err
		}
		if err := q.write(s); err != nil || len(s.Words) == 0 {
			return 0, err
		}
		return 2, nil
	}
	return q.run(args)
}

func meshCheck(args []string) int {
	q := &question{name: "mesh check", about: `Send probes of full size, which must not be taken apart (DF), over UDP and TCP, from every
host to every other by each path, and say where they get lost: an MTU on the way that is
too small, and a device that spoils checksums.
Exit code: 0 all is well; 2 something is not; 1 it cannot be told.`,
		example: `
  # linkspan mesh check
  FROM   TO     PATH    RTT    LOSS  MTU           RESULT
  host1  host2  direct  180µs  0 %   1500          well
  host1  host2  vxlan   210µs  0 %   1400 of 1450  packets above 1400 bytes get lost on the way
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		s, err := c.MeshCheck(ctx)
		if err != nil {
			return 1, err
		}
		if err := q.write(s); err != nil || s.Well() {
			return 0, err
		}
		return 2, nil
	}
	return q.run(args)
}

const meshTokenHelp = `Usage: linkspan mesh token COMMAND

What lets a host join the mesh: it works once, and expires.

Commands:
  create [--ttl 24h]  Make a token, and print what to type at the other host
  ls                  List tokens: which wait, which were used, and by whom
  revoke ID           Take one back
`

func meshToken(args []string) int {
	return among("mesh token", meshTokenHelp, map[string]func([]string) int{"create": meshTokenCreate, "ls": meshTokenList, "revoke": meshTokenRevoke}, args)
}

func meshTokenCreate(args []string) int {
	var ttl time.Duration
	q := &question{name: "mesh token create", about: "Make a token that lets one host join, and print what to type there.\nExit code: 0 it is made; 1 it is not, and why.",
		flags: func(f *pflag.FlagSet) { f.DurationVar(&ttl, "ttl", 0, "How long it holds (default 24h)") },
		example: `
  # linkspan mesh token create --ttl 1h
  At another host, within 60 minutes:

      linkspan mesh join 10.0.0.1:2380 --token lsm1-…
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		return answered(q)(c.MeshCreateToken(ctx, ttl))
	}
	return q.run(args)
}

func meshTokenList(args []string) int {
	q := &question{name: "mesh token ls", about: "List tokens: which wait, which were used, and by whom. Their secrets are not kept.",
		example: `
  # linkspan mesh token ls
  ID         MADE ON   STATE
  q7w2ke5m   host1     used by host2 5 minutes ago
  x3b8n1pf   host1     waits; expires in 23 hours
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		return answered(q)(c.MeshTokens(ctx))
	}
	return q.run(args)
}

func meshTokenRevoke(args []string) int {
	q := &question{name: "mesh token revoke", usage: "ID", least: 1, most: 1, about: "Take a token back: it lets nobody in any more. A host that has joined with it stays.",
		example: `
  # linkspan mesh token revoke x3b8n1pf
  token x3b8n1pf lets nobody in any more
`}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		return answered(q)(c.MeshRevokeToken(ctx, args[0]))
	}
	return q.run(args)
}

func meshRole(verb string) func([]string) int {
	about := `Have a host run etcd for the mesh. 1, 3 or 5 hosts should: an even number survives no more
losses than one less. The host does it by itself, within seconds of hearing of it.
Exit code: 0 it is wished; 1 it is not, and why.`
	example := `
  # linkspan mesh promote host2
  host2 is to run etcd; it begins as soon as it hears of it
    ! 2 members survive no more losses than 1: promote another host
`
	if verb == "demote" {
		about = `Have a host run etcd no more; it stays in the mesh as a client of the others. One that is
gone is taken out of etcd's members at once.
Exit code: 0 it is wished; 1 it is not, and why.`
		example = `
  # linkspan mesh demote host2
  host2 is to run etcd no more
`
	}
	return func(args []string) int {
		q := &question{name: "mesh " + verb, usage: "HOST", least: 1, most: 1, about: about, example: example}
		q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
			return answered(q)(c.MeshRole(ctx, verb, args[0]))
		}
		return q.run(args)
	}
}

func meshForget(args []string) int {
	force := false
	q := &question{name: "mesh forget", usage: "HOST", least: 1, most: 1, about: `Give back what a host held that is gone for good: its addresses, blocks, names, its place
among etcd's members. One that comes back all the same finds itself forgotten, keeps apart
from the mesh's networks, and can join again. A host that lives is refused: say linkspan
mesh leave there.
Exit code: 0 it is forgotten; 1 it is not, and why.`,
		flags: func(f *pflag.FlagSet) { f.BoolVar(&force, "force", false, "Forget it although it lives") },
		example: `
  # linkspan mesh forget host3
  host3 is forgotten; its addresses are free
`}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		return answered(q)(c.MeshForget(ctx, args[0], force))
	}
	return q.run(args)
}

func meshRotate(args []string) int {
	q := &question{name: "mesh rotate", about: "Give this host a new key for encrypted networks, and a new certificate, at once instead of\nwhen it is time. No connection breaks.\nExit code: 0 they are new; 1 they are not, and why.",
		example: `
  # linkspan mesh rotate
  this host has a new WireGuard key and a new certificate
`}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		return answered(q)(c.MeshRotate(ctx))
	}
	return q.run(args)
}

// answered writes an answer, or passes the error on.
func answered(q *question) func(v interface{ WriteText(io.Writer) error }, err error) (int, error) {
	return func(v interface{ WriteText(io.Writer) error }, err error) (int, error) {
		if err != nil {
			return 1, err
		}
		return 0, q.write(v)
	}
}
