package docker

import (
	"errors"
	"net"
	"net/http"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/network"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

// createJSON is a create request with the fields that the current types no
// longer have and older clients still send.
type createJSON struct {
	apicontainer.CreateRequest
	// MacAddress moved to the endpoints in 1.44; older clients know only this.
	MacAddress string
}

func (s *server) containerCreate(c *call) error {
	r, warnings, err := c.createRequest()
	if err != nil {
		return err
	}
	withoutDefault(s.Network, &r)
	id, more, err := s.Containers.Create(c.Context(), r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, apicontainer.CreateResponse{
		ID: id, Warnings: orEmpty(append(warnings, more...)),
	})
}

// withoutDefault: where the daemon has no default network (--bridge=none), a
// container that names none has its loopback alone, as in dockerd.
func withoutDefault(nets network.Service, r *container.CreateRequest) {
	if m := r.HostConfig.NetworkMode; m != "" && !m.IsDefault() {
		return
	}
	if _, err := nets.Network(apinetwork.NetworkBridge); !errors.Is(err, cnm.ErrNotFound) {
		return
	}
	r.HostConfig.NetworkMode = apinetwork.NetworkNone
	if ep, ok := r.Networks[apinetwork.NetworkDefault]; ok {
		delete(r.Networks, apinetwork.NetworkDefault)
		r.Networks[apinetwork.NetworkNone] = ep
	}
}

// DecodeCreate reads a request to POST /containers/create, as the API does, for
// doors that take the same wish (api/admin plans it).
func DecodeCreate(w http.ResponseWriter, r *http.Request, nets network.Service) (req container.CreateRequest, warnings []string, err error) {
	c := &call{R: r, w: &response{ResponseWriter: w}, Version: MaxVersion, stopping: r.Context()}
	if req, warnings, err = c.createRequest(); err == nil {
		withoutDefault(nets, &req)
	}
	return req, warnings, err
}

func (c *call) createRequest() (r container.CreateRequest, warnings []string, err error) {
	var body createJSON
	if c.R.ContentLength == 0 {
		return r, nil, cnm.Invalid("invalid JSON: got EOF while reading request body")
	}
	if err := c.ReadJSON(&body); err != nil {
		return r, nil, err
	}
	if body.Config == nil {
		return r, nil, cnm.Invalid("config cannot be empty in order to create a container")
	}
	r = container.CreateRequest{
		Name: c.Query("name"), Platform: c.Query("platform"),
		Config: body.Config, HostConfig: body.HostConfig,
	}
	if r.HostConfig == nil {
		r.HostConfig = &apicontainer.HostConfig{}
	}
	if body.NetworkingConfig != nil {
		r.Networks = body.NetworkingConfig.EndpointsConfig
	}
	warnings, err = body.normalize(c.Version, &r)
	return r, warnings, err
}

// normalize brings what older versions meant to today's form.
func (b *createJSON) normalize(v Version, r *container.CreateRequest) (warnings []string, err error) {
	hc := r.HostConfig
	for name, ep := range r.Networks {
		if ep == nil {
			r.Networks[name] = &apinetwork.EndpointSettings{}
		}
		v.endpoint(r.Networks[name])
	}
	if v.Before(44) && len(r.Networks) > 1 {
		return nil, cnm.Invalid("container cannot be created with multiple network endpoints: API version %s takes one, 1.44 and later take several", v)
	}
	if v.Before(41) && hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = apicontainer.CgroupnsModeHost
	}
	if v.Before(40) && hc.IpcMode.IsEmpty() {
		hc.IpcMode = apicontainer.IPCModeShareable
	}
	if v.Before(42) {
		hc.ConsoleSize = [2]uint{} // meant for Windows only until then
		if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
			hc.PidsLimit = nil
		}
	}
	return b.macAddress(v, r)
}

// macAddress moves the container-wide MAC address to the endpoint of the
// container's network mode.
func (b *createJSON) macAddress(v Version, r *container.CreateRequest) ([]string, error) {
	if b.MacAddress == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(b.MacAddress)
	if err != nil {
		return nil, cnm.Invalid("invalid MAC address: %s", b.MacAddress)
	}
	mode := r.HostConfig.NetworkMode
	switch {
	case mode.IsContainer(), mode.IsHost():
		return nil, cnm.Invalid("conflicting options: mac-address and the network mode %s", mode)
	case mode == "":
		mode = apinetwork.NetworkDefault
	}
	ep := r.Networks[string(mode)]
	if ep == nil && len(r.Networks) == 1 {
		for _, ep = range r.Networks { // the mode names the same network by id
		}
	}
	if ep == nil {
		ep = &apinetwork.EndpointSettings{}
		if r.Networks == nil {
			r.Networks = map[string]*apinetwork.EndpointSettings{}
		}
		r.Networks[string(mode)] = ep
	}
	if len(ep.MacAddress) > 0 && ep.MacAddress.String() != mac.String() {
		return nil, cnm.Invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty: %s and %s", mac, ep.MacAddress)
	}
	ep.MacAddress = apinetwork.HardwareAddr(mac)
	if v.Before(44) {
		return nil, nil
	}
	return []string{"The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."}, nil
}
