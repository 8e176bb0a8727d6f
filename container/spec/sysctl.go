package spec

import (
	"slices"
	"strings"

	"linkspan/cnm"
)

// ipcSysctls are those of the IPC namespace (ipc_namespaces(7)); what starts
// with fs.mqueue. is too.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// SplitSysctls sorts the wish into those of the network namespace, which the
// sandbox gets when it is made, and those that the runtime sets. What has no
// namespace is refused: it would change the host.
func SplitSysctls(all map[string]string, netShared, ipcHost, utsHost bool) (net, rest map[string]string, err error) {
	net, rest = map[string]string{}, map[string]string{}
	for k, v := range all {
		// sysctl(8) takes both separators; runc knows dots.
		k = strings.ReplaceAll(k, "/", ".")
		switch {
		case strings.HasPrefix(k, "net."):
			if netShared {
				return nil, nil, cnm.Invalid("sysctl %q not allowed: the container has no network namespace of its own; set it where that namespace is owned", k)
			}
			net[k] = v
		case slices.Contains(ipcSysctls, k), strings.HasPrefix(k, "fs.mqueue."):
			if ipcHost {
				return nil, nil, cnm.Invalid("sysctl %q not allowed: the container uses the host's IPC namespace", k)
			}
			rest[k] = v
		case k == "kernel.domainname":
			if utsHost {
				return nil, nil, cnm.Invalid("sysctl %q not allowed: the container uses the host's UTS namespace", k)
			}
			rest[k] = v
		case k == "kernel.hostname":
			return nil, nil, cnm.Invalid("sysctl %q not allowed: use --hostname", k)
		default:
			return nil, nil, cnm.Invalid("sysctl %q is not in a separate kernel namespace: it would change the whole host", k)
		}
	}
	return net, rest, nil
}
