#!/bin/sh
# Records what Debian's dockerd (20.10) answers, as goldens for the renderer.
# usage: record.sh DIR-WITH-dockerd-AND-docker-proxy BUSYBOX-STATIC OUTPUT-DIR
# Needs root, containerd, runc, iptables, curl, jq. The dockerd lives in a network
# namespace and roots of its own and is gone afterwards.
set -eu
bin=$1 busybox=$2 out=$3
work=$(mktemp -d) ns=dd20-$$
PATH=$bin:$PATH
ip netns add "$ns"
cleanup() {
	kill "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	ip netns del "$ns" || true
	umount "$work"/exec/netns/* 2>/dev/null || true
	umount -l "$work"/data/overlay2 2>/dev/null || true
	rm -rf "$work"
}
pid=0
trap cleanup EXIT
nsenter --net="/run/netns/$ns" sh -c "ip link set lo up; exec dockerd -H unix://$work/sock --data-root $work/data --exec-root $work/exec --pidfile $work/pid" >"$work/log" 2>&1 &
pid=$!
sock=$work/sock
i=0
until curl -sf --unix-socket "$sock" http://d/_ping >/dev/null; do
	i=$((i + 1))
	[ $i -lt 100 ] || { cat "$work/log"; exit 1; }
	sleep 0.2
done
api() { # METHOD PATH [BODY]
	if [ $# -gt 2 ]; then
		curl -s --unix-socket "$sock" -X "$1" -H 'Content-Type: application/json' -d "$3" "http://d$2"
	else
		curl -s --unix-socket "$sock" -X "$1" "http://d$2"
	fi
}
mkdir -p "$work/root/bin" "$out"
cp "$busybox" "$work/root/bin/busybox"
for a in sh sleep; do ln -s busybox "$work/root/bin/$a"; done
tar -C "$work/root" -c . | curl -s --unix-socket "$sock" -X POST -H 'Content-Type: application/x-tar' --data-binary @- \
	"http://d/images/create?fromSrc=-&repo=box&tag=latest" >/dev/null

body() { # NETWORKMODE
	printf '{"Hostname":"","Image":"box","Cmd":["sleep","600"],"Env":["A=b"],"Labels":{"role":"test"},"StopTimeout":1,"ExposedPorts":{"3306/tcp":{},"33060/tcp":{},"53/udp":{}},"HostConfig":{"NetworkMode":"%s","PortBindings":{"3306/tcp":[{"HostIp":"","HostPort":"13306"}],"53/udp":[{"HostIp":"127.0.0.1","HostPort":"15353"}]},"RestartPolicy":{"Name":"no"}}}' "$1"
}
record() { # NAME FILE
	api GET "/v1.41/containers/$1/json" >"$out/$2.json"
}
for mode in default host none; do
	name=$mode
	[ $mode = default ] && name=bridge
	api POST "/v1.41/containers/create?name=$name" "$(body $mode)" >/dev/null
	record $name "$name-created"
	api POST "/v1.41/containers/$name/start"
	record $name "$name-running"
done
plain='{"Image":"box","Cmd":["sleep","600"],"StopTimeout":1,"HostConfig":{"NetworkMode":"container:bridge"}}'
api POST "/v1.41/containers/create?name=joined" "$plain" >/dev/null
api POST "/v1.41/containers/joined/start"
record joined container-running
api GET "/v1.41/containers/json?all=1" >"$out/list.json"
api GET "/v1.41/networks" >"$out/networks.json"
for n in bridge host none; do api GET "/v1.41/networks/$n" >"$out/network-$n.json"; done
api GET "/v1.41/info" >"$out/info.json"
api GET "/v1.41/version" >"$out/version.json"
api GET "/v1.24/containers/bridge/json" >"$out/bridge-running-1.24.json"
# Networks of a person's, containers on them, links, health.
api POST /v1.41/networks/create '{"Name":"my-net","CheckDuplicate":true,"Driver":"bridge","EnableIPv6":true,"Attachable":true,"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"172.25.0.0/16","IPRange":"172.25.1.0/24","Gateway":"172.25.0.1","AuxiliaryAddresses":{"router":"172.25.0.2"}},{"Subnet":"fd00:25::/64","Gateway":"fd00:25::1"}]},"Options":{"com.docker.network.driver.mtu":"1400"},"Labels":{"a":"b"}}' >"$out/answer-network-create.json"
api POST /v1.41/networks/create '{"Name":"lamp","CheckDuplicate":true,"Driver":"bridge","Internal":true,"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"172.26.0.0/16","Gateway":"172.26.0.1"}]},"Options":{},"Labels":{}}' >/dev/null
api POST /v1.41/networks/create '{"Name":"base","ConfigOnly":true,"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"172.27.0.0/16"}]},"Options":{},"Labels":{}}' >/dev/null
api POST /v1.41/networks/create '{"Name":"derived","Driver":"bridge","ConfigFrom":{"Network":"base"},"IPAM":{"Driver":"default","Options":{},"Config":[]},"Options":{},"Labels":{}}' >/dev/null
api POST "/v1.41/containers/create?name=member" '{"Hostname":"front","Image":"box","Cmd":["sleep","600"],"StopTimeout":1,"MacAddress":"02:42:ac:19:00:55","HostConfig":{"NetworkMode":"my-net","RestartPolicy":{"Name":"no"}},"NetworkingConfig":{"EndpointsConfig":{"my-net":{"IPAMConfig":{"IPv4Address":"172.25.0.5"},"Aliases":["shop"]}}}}' >/dev/null
api POST "/v1.41/networks/lamp/connect" '{"Container":"member","EndpointConfig":{"IPAMConfig":{"IPv4Address":"172.26.0.9"},"Aliases":["cart"],"Links":["bridge:db"],"DriverOpts":{"o":"p"}}}'
record member member-created
api POST "/v1.41/containers/member/start"
record member member-running
for n in my-net lamp base derived; do api GET "/v1.41/networks/$n" >"$out/network-$n.json"; done
api POST "/v1.41/containers/create?name=linker" '{"Image":"box","Cmd":["sleep","600"],"StopTimeout":1,"HostConfig":{"NetworkMode":"default","RestartPolicy":{"Name":"no"},"Links":["bridge:db"]},"Healthcheck":{"Test":["CMD-SHELL","echo fine"],"Interval":1000000000,"Timeout":1000000000,"Retries":2}}' >/dev/null
api POST "/v1.41/containers/linker/start"
sleep 3
record linker linker-running
api GET "/v1.41/containers/json?all=1" >"$out/list-networks.json"
exec=$(api POST "/v1.41/containers/bridge/exec" '{"Cmd":["sh","-c","exit 3"],"AttachStdout":true}' | sed 's/.*"Id":"\([0-9a-f]*\)".*/\1/')
api GET "/v1.41/exec/$exec/json" >"$out/exec-created.json"
api POST "/v1.41/exec/$exec/start" '{"Detach":true}'
sleep 1
api GET "/v1.41/exec/$exec/json" >"$out/exec-ended.json"
api POST "/v1.41/containers/bridge/pause"
record bridge bridge-paused
api POST "/v1.41/containers/bridge/unpause"
api POST "/v1.41/containers/linker/stop?t=1"
for c in joined bridge host none member; do
	api POST "/v1.41/containers/$c/stop?t=1"
	f=$c
	[ $c = joined ] && f=container
	record $c "$f-exited"
done
# Words and statuses of errors, one per line: status, request, message.
errors() {
	while IFS='|' read -r method path data; do
		if [ -n "$data" ]; then
			answer=$(curl -s -w '\n%{http_code}' --unix-socket "$sock" -X "$method" -H 'Content-Type: application/json' -d "$data" "http://d$path")
		else
			answer=$(curl -s -w '\n%{http_code}' --unix-socket "$sock" -X "$method" "http://d$path")
		fi
		printf '%s\t%s %s\t%s\t%s\n' "$(echo "$answer" | tail -1)" "$method" "$path" "$data" "$(echo "$answer" | sed '$d' | tr -d '\n')"
	done
}
api POST "/v1.41/containers/member/start"
errors >"$out/errors.tsv" <<'LIST'
GET|/v1.99/containers/json|
GET|/v1.9/containers/json|
GET|/nowhere|
GET|/v1.41/nowhere|
PUT|/containers/json|
GET|/containers/absent/json|
POST|/containers/absent/start|
POST|/containers/bridge/wait?condition=foo|
GET|/containers/json?filters=nonsense|
GET|/containers/json?filters=%7B%22foo%22%3A%7B%22a%22%3Atrue%7D%7D|
GET|/containers/json?filters=%7B%22status%22%3A%7B%22foo%22%3Atrue%7D%7D|
GET|/containers/json?filters=%7B%22exited%22%3A%7B%22foo%22%3Atrue%7D%7D|
GET|/containers/json?filters=%7B%22name%22%3A%5B%22bridge%22%5D%7D|
GET|/containers/json?limit=foo|
GET|/containers/bridge/logs|
GET|/containers/bridge/archive|
POST|/containers/create|
POST|/containers/create|{
POST|/containers/create|{}
POST|/containers/create|{"Image":"absent"}
POST|/containers/create|{"Image":5}
POST|/containers/create|{"Image":"box"} x
POST|/containers/create?name=bridge|{"Image":"box"}
POST|/containers/bridge/kill|
POST|/containers/bridge/kill?signal=foo|
POST|/containers/bridge/stop|
POST|/containers/bridge/resize?h=a&w=1|
POST|/containers/bridge/rename|
POST|/containers/bridge/exec|{"Cmd":["sh"]}
POST|/exec/absent/start|{}
GET|/exec/absent/json|
GET|/networks/absent|
DELETE|/networks/bridge|
DELETE|/networks/absent|
GET|/networks?filters=%7B%22foo%22%3A%7B%22a%22%3Atrue%7D%7D|
GET|/networks?filters=%7B%22type%22%3A%7B%22foo%22%3Atrue%7D%7D|
GET|/events?since=foo|
GET|/events?since=2&until=1|
POST|/networks/create|{"Name":"bridge","CheckDuplicate":true}
POST|/networks/create|{"Name":"my-net","CheckDuplicate":true}
POST|/networks/create|{"Name":"x","IPAM":{"Config":[{"Subnet":"172.25.9.0/24"}]}}
POST|/networks/create|{"Name":"x","IPAM":{"Config":[{"Subnet":"172.28.0.1"}]}}
POST|/networks/create|{"Name":"x","Driver":"nodriver"}
DELETE|/networks/lamp|
POST|/networks/absent/connect|{"Container":"member"}
POST|/networks/lamp/connect|{"Container":"absent"}
POST|/networks/lamp/connect|{"Container":"member"}
POST|/networks/host/connect|{"Container":"member"}
POST|/networks/lamp/disconnect|{"Container":"linker"}
POST|/networks/lamp/disconnect|{"Container":"absent"}
POST|/containers/bridge/update|{"Memory":1}
GET|/containers/absent/stats|
GET|/containers/absent/changes|
GET|/containers/absent/export|
POST|/commit?container=absent|
POST|/networks/prune?filters=%7B%22foo%22%3A%7B%22a%22%3Atrue%7D%7D|
GET|/swarm|
GET|/services|
GET|/nodes|
GET|/tasks|
GET|/secrets|
GET|/configs|
POST|/swarm/leave|
GET|/plugins|
GET|/plugins/absent/json|
GET|/images/absent/json|
GET|/volumes/absent|
LIST
curl -sI --unix-socket "$sock" http://d/_ping >"$out/ping.txt"
for c in linker member joined bridge host none; do api DELETE "/v1.41/containers/$c?force=1&v=1"; done
# The temporary folders become those of a packaged dockerd.
for f in "$out"/*.json; do
	sed -i "s#$work/data#/var/lib/docker#g; s#$work/exec#/var/run/docker#g" "$f"
	jq . "$f" >"$f.new" && mv "$f.new" "$f"
done
