// Package container is the life of containers on containerd: create, start,
// attach, wait, exec, logs, restart policies, copy. It owns no networking: it
// asks network.Service for a sandbox and hands its path to the runtime.
package container

import (
	"context"
	"io"
	"os"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

// Phase is where a container is in its life, in Docker's words.
type Phase string

// The phases.
const (
	Created    Phase = "created"
	Running    Phase = "running"
	Paused     Phase = "paused"
	Restarting Phase = "restarting"
	Removing   Phase = "removing"
	Exited     Phase = "exited"
	Dead       Phase = "dead"
)

// State is what changes while a container lives.
type State struct {
	Phase      Phase     `json:"phase"`
	Pid        int       `json:"pid,omitempty"`
	ExitCode   int       `json:"exit_code"`
	Error      string    `json:"error,omitempty"`
	OOMKilled  bool      `json:"oom_killed,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Restarts counts automatic restarts since the last start by a person.
	Restarts int `json:"restarts,omitempty"`
	// Stopped by a person: "unless-stopped" and "always" heed it.
	ManuallyStopped bool `json:"manually_stopped,omitempty"`
	// Health is nil without a health check.
	Health *Health `json:"health,omitempty"`
	// Starting is set by the commit before a start touches kernel or containerd
	// and cleared by the one after; after a crash it tells a half-made start.
	Starting bool `json:"starting,omitempty"`
	// Frozen is set while a commit has the container paused; after a crash the next
	// daemon lets it go on.
	Frozen bool `json:"frozen,omitempty"`
}

// Container is one container's definition and state, stored whole under
// containers/<ID>. Values handed out are copies: read only.
type Container struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // without slash
	Created time.Time `json:"created"`

	// Config, HostConfig and Networks are the wish as the client sent it, with
	// the image's defaults merged into Config.
	Config     *apicontainer.Config                    `json:"config"`
	HostConfig *apicontainer.HostConfig                `json:"host_config"`
	Networks   map[string]*apinetwork.EndpointSettings `json:"networks"` // empty is not nil
	// Numbers are the interfaces' numbers by network name: declared once, kept until
	// the network is disconnected, so that eth1 is eth1 after every restart.
	Numbers map[string]int `json:"numbers,omitempty"`
	// Links are --link on the default bridge, resolved at create: targets by full id.
	Links []Link `json:"links,omitempty"`

	ImageID  string `json:"image_id"`  // sha256:…
	ImageRef string `json:"image_ref"` // the name it was created with
	// Path and Args are the resolved command.
	Path string   `json:"path"`
	Args []string `json:"args"`

	// Target is the full id of the container whose sandbox is joined
	// (container:X), resolved at create.
	Target string  `json:"target,omitempty"`
	Mounts []Mount `json:"mounts,omitempty"`
	State  State   `json:"state"`
	// Creating is set while a container with volumes of its own is made, and
	// cleared by the commit that makes it exist; after a crash it tells what to
	// take away. RemoveVolumes is the wish of a removal under way.
	Creating      bool `json:"creating,omitempty"`
	RemoveVolumes bool `json:"remove_volumes,omitempty"`
	// Rev is the store revision of this version; not stored.
	Rev int64 `json:"-"`
}

// Link is one --link, resolved: the target by full id.
type Link struct {
	Target string `json:"target"`
	Alias  string `json:"alias"`
}

// Health is a container's health as its checks found it; Status is "starting",
// "healthy" or "unhealthy", Log the last five checks.
type Health = apicontainer.Health

// Mount is one resolved mount of a container.
type Mount struct {
	Type string `json:"type"` // "bind", "volume", "tmpfs"
	Name string `json:"name,omitempty"`
	// Subpath is the part of a volume that is mounted; empty: all of it.
	Subpath     string `json:"subpath,omitempty"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Mode        string `json:"mode,omitempty"`
	RW          bool   `json:"rw"`
	Propagation string `json:"propagation,omitempty"`
	// Anonymous volumes go with `rm -v` and `--rm`.
	Anonymous bool `json:"anonymous,omitempty"`
	// NoCopy, NonRecursive, ROTopOnly, ROForce, CreateSource and Options are as in
	// mounts.Point.
	NoCopy       bool     `json:"no_copy,omitempty"`
	NonRecursive bool     `json:"non_recursive,omitempty"`
	ROTopOnly    bool     `json:"ro_top_only,omitempty"`
	ROForce      bool     `json:"ro_force,omitempty"`
	CreateSource bool     `json:"create_source,omitempty"`
	Options      []string `json:"options,omitempty"`
}

// CreateRequest is what POST /containers/create carries.
type CreateRequest struct {
	Name       string
	Platform   string
	Config     *apicontainer.Config
	HostConfig *apicontainer.HostConfig
	Networks   map[string]*apinetwork.EndpointSettings
}

// StopOptions: Signal empty: the container's own; Timeout nil: the container's
// own, else 10 s; negative: wait for ever.
type StopOptions struct {
	Signal  string
	Timeout *int // seconds
}

// RemoveOptions as in `docker rm`. Link removes only a link, which the ref then
// names ("web/db"), and not the container.
type RemoveOptions struct{ Force, Volumes, Link bool }

// WaitCondition as in POST /containers/X/wait.
type WaitCondition string

// The conditions.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
)

// WaitResult is how a wait ended.
type WaitResult struct {
	ExitCode int
	Err      error
}

// AttachOptions as in POST /containers/X/attach. Logs replays what the log holds.
type AttachOptions struct {
	Stdin, Stdout, Stderr, Stream, Logs bool
	DetachKeys                          string // "ctrl-p,ctrl-q"; empty: the default
	// Mux frames output with stdcopy headers (non-tty).
	Mux bool
	// Pending are bytes read from the client beyond the request.
	Pending []byte
}

// LogOptions as in GET /containers/X/logs. Tail negative: all.
type LogOptions struct {
	Stdout, Stderr, Follow, Timestamps, Details bool
	Since, Until                                time.Time
	Tail                                        int
}

// ExecConfig is one exec's definition.
type ExecConfig struct {
	Cmd                            []string
	Env                            []string
	User, WorkingDir, DetachKeys   string
	Tty, AttachStdin, AttachStdout bool
	AttachStderr, Privileged       bool
	ConsoleSize                    *[2]uint // height, width
}

// Exec is one exec as inspected.
type Exec struct {
	ID, ContainerID string
	Config          ExecConfig
	Running         bool
	ExitCode        *int // nil until it ended
	Pid             int
	Started         bool
}

// PathStat is the answer of HEAD /containers/X/archive.
type PathStat struct {
	Name       string      `json:"name"`
	Size       int64       `json:"size"`
	Mode       os.FileMode `json:"mode"`
	Mtime      time.Time   `json:"mtime"`
	LinkTarget string      `json:"linkTarget"`
}

// CommitOptions as in POST /commit. Pause freezes the container meanwhile.
type CommitOptions struct {
	Repo, Tag, Comment, Author string
	Pause                      bool
	// Changes are Dockerfile instructions (`docker commit -c`); Config, when not
	// nil, is put over the container's.
	Changes []string
	Config  *apicontainer.Config
}

// Service is what the doors ask of containers. A ref is an id, a unique id
// prefix or a name (with or without slash). Errors carry cnm classes: unknown
// container is cnm.ErrNotFound ("No such container: x"), already in that state
// cnm.ErrNotModified, name in use cnm.ErrConflict in Docker's words.
type Service interface {
	Create(ctx context.Context, r CreateRequest) (id string, warnings []string, err error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o StopOptions) error
	Restart(ctx context.Context, ref string, o StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Rename(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, o RemoveOptions) error
	Resize(ctx context.Context, ref string, height, width uint) error

	Get(ref string) (*Container, error)
	List() []*Container

	// Wait registers before it returns; the channel gets exactly one result.
	Wait(ctx context.Context, ref string, c WaitCondition) (<-chan WaitResult, error)
	// Attach hands the client's connection over. Validate first with CanAttach,
	// since after the 101 no error can be told.
	CanAttach(ref string) (*Container, error)
	Attach(ctx context.Context, ref string, o AttachOptions, client *os.File) error
	// Logs writes until the end or, following, until ctx ends. stdcopy-framed
	// unless the container has a tty. flush is called after each batch.
	Logs(ctx context.Context, ref string, o LogOptions, w io.Writer, flush func()) error
	// Top runs ps; titles and rows.
	Top(ctx context.Context, ref string, psArgs string) (titles []string, rows [][]string, err error)

	ExecCreate(ctx context.Context, ref string, c ExecConfig) (id string, err error)
	// ExecStart with a client hands it over and returns when the process ended or
	// the client detached; without one (detached) it returns once it runs.
	ExecStart(ctx context.Context, execID string, tty bool, size *[2]uint, client *os.File, pending []byte) error
	ExecGet(execID string) (*Exec, error)
	ExecResize(ctx context.Context, execID string, height, width uint) error

	StatPath(ctx context.Context, ref, path string) (*PathStat, error)
	GetArchive(ctx context.Context, ref, path string) (io.ReadCloser, *PathStat, error)
	PutArchive(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) error

	// Connect puts a container, running or not, on a network; Disconnect takes it
	// off. ep may be nil. Ports are not touched: they belong to the container.
	Connect(ctx context.Context, ref, network string, ep *apinetwork.EndpointSettings) error
	Disconnect(ctx context.Context, ref, network string, force bool) error
	// Update changes limits and restart policy.
	Update(ctx context.Context, ref string, u apicontainer.UpdateConfig) (warnings []string, err error)
	// Stats reads one sample. A container that does not run has zeros.
	Stats(ctx context.Context, ref string) (*apicontainer.StatsResponse, error)
	// Changes compares the writable layer with the image.
	Changes(ctx context.Context, ref string) ([]apicontainer.FilesystemChange, error)
	// Export packs the root filesystem as a tar.
	Export(ctx context.Context, ref string) (io.ReadCloser, error)
	// Commit makes an image of the container and returns its id.
	Commit(ctx context.Context, ref string, o CommitOptions) (imageID string, err error)
	// Size returns the bytes of the writable layer and of the whole root.
	Size(ctx context.Context, ref string) (rw, root int64, err error)
}
