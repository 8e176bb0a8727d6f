package docker

import (
	"net/http"
	"time"

	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/storage"
)

// inspectJSON is InspectResponse with the parts that depend on the version. A
// field here wins over the one of the same name inside.
type inspectJSON struct {
	apicontainer.InspectResponse
	Config          *configJSON
	NetworkSettings *networkSettingsJSON
}

// configJSON is Config with the MAC address that it had until 1.44, and with
// OnBuild also where it is empty.
type configJSON struct {
	*apicontainer.Config
	OnBuild    []string
	MacAddress string `json:",omitempty"`
}

func (s *server) containerInspect(c *call) error {
	ctr, err := s.Containers.Get(c.Vars["id"])
	if err != nil {
		return err
	}
	v := s.renderInspect(c, ctr)
	if c.Bool("size") {
		rw, root, err := s.Containers.Size(c.Context(), ctr.ID)
		if err != nil {
			return err
		}
		v.SizeRw, v.SizeRootFs = &rw, &root
	}
	return c.JSON(http.StatusOK, v)
}

func (s *server) renderInspect(c *call, ctr *container.Container) *inspectJSON {
	driver := s.facts(c).Driver
	files := s.files(ctr)
	v := &inspectJSON{
		InspectResponse: apicontainer.InspectResponse{
			ID:      ctr.ID,
			Created: stamp(ctr.Created),
			Path:    ctr.Path, Args: orEmpty(ctr.Args),
			State: renderState(ctr.State),
			Image: ctr.ImageID,

			ResolvConfPath: files.ResolvConf, HostnamePath: files.Hostname,
			HostsPath: files.Hosts, LogPath: files.Log,

			Name: "/" + ctr.Name, RestartCount: ctr.State.Restarts,
			Driver: driver, Platform: "linux",
			HostConfig:  s.hostConfig(ctr),
			GraphDriver: &storage.DriverData{Name: driver},
			Mounts:      renderMounts(ctr.Mounts),
		},
		Config:          &configJSON{Config: ctr.Config, OnBuild: ctr.Config.OnBuild},
		NetworkSettings: s.renderNetworkSettings(c.Version, ctr),
	}
	if l, ok := s.Containers.(execLister); ok {
		v.ExecIDs = l.ExecIDs(ctr.ID)
	}
	if c.Version.Before(44) && !ctr.HostConfig.NetworkMode.IsContainer() {
		if ep := s.wishes(ctr)[s.networkName(string(ctr.HostConfig.NetworkMode))]; ep != nil && len(ep.MacAddress) > 0 {
			v.Config.MacAddress = ep.MacAddress.String()
		}
	}
	return v
}

// files are the container's files on the host. Before its first start there are
// none, and one that joined another's sandbox has that one's names and hosts.
func (s *server) files(ctr *container.Container) Files {
	if s.Files == nil || ctr.State.StartedAt.IsZero() {
		return Files{}
	}
	own := s.Files(ctr)
	if ctr.HostConfig.LogConfig.Type == "none" {
		own.Log = "" // there is no such file
	}
	if ctr.Target == "" {
		return own
	}
	target, err := s.Containers.Get(ctr.Target)
	if err != nil {
		return Files{Log: own.Log}
	}
	f := s.Files(target)
	f.Log = own.Log
	return f
}

// hostConfig is the wish as it was sent, but with the joined container by its
// id, since a name can move to another, and links by the names of today.
func (s *server) hostConfig(ctr *container.Container) *apicontainer.HostConfig {
	hc := *ctr.HostConfig
	hc.NetworkMode = networkMode(ctr)
	if len(ctr.Links) > 0 {
		hc.Links = nil
	}
	for _, l := range ctr.Links {
		name := l.Target
		if t, err := s.Containers.Get(l.Target); err == nil {
			name = t.Name
		}
		hc.Links = append(hc.Links, "/"+name+":"+linkName(ctr, l))
	}
	return &hc
}

// linkName is the second name that a link gives to its target: "/web/db".
func linkName(ctr *container.Container, l container.Link) string {
	return "/" + ctr.Name + "/" + l.Alias
}

func networkMode(ctr *container.Container) apicontainer.NetworkMode {
	if ctr.Target != "" {
		return apicontainer.NetworkMode("container:" + ctr.Target)
	}
	return ctr.HostConfig.NetworkMode
}

// renderState says the phase in Docker's flags. A restarting container counts
// as running, a paused one too.
func renderState(st container.State) *apicontainer.State {
	return &apicontainer.State{
		Status:     apicontainer.ContainerState(st.Phase),
		Running:    running(st.Phase),
		Paused:     st.Phase == container.Paused,
		Restarting: st.Phase == container.Restarting,
		OOMKilled:  st.OOMKilled,
		Dead:       st.Phase == container.Dead,
		Pid:        st.Pid,
		ExitCode:   st.ExitCode,
		Error:      st.Error,
		StartedAt:  stamp(st.StartedAt),
		FinishedAt: stamp(st.FinishedAt),
		Health:     st.Health,
	}
}

func running(p container.Phase) bool {
	return p == container.Running || p == container.Paused || p == container.Restarting
}

// stamp writes a time as Docker does; the zero time is the year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func renderMounts(mounts []container.Mount) []apicontainer.MountPoint {
	points := make([]apicontainer.MountPoint, 0, len(mounts))
	for _, m := range mounts {
		p := apicontainer.MountPoint{
			Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Destination,
			Mode: m.Mode, RW: m.RW, Propagation: mount.Propagation(m.Propagation),
		}
		if p.Type == mount.TypeVolume {
			p.Driver = "local"
		}
		points = append(points, p)
	}
	return points
}
