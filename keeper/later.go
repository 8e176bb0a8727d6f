package keeper

import (
	"context"

	"linkspan/cnm"
	"linkspan/dns"
)

var errLater = cnm.Unsupported("not yet: the keeper's resolvers")

func (c *Client) Retarget(context.Context, []PortRequest) error              { return errLater }
func (c *Client) SetView(context.Context, dns.View, *dns.Sockets) error      { return errLater }
func (c *Client) RemoveView(context.Context, string) error                   { return errLater }
func (c *Client) Views(context.Context) ([]string, error)                    { return nil, errLater }
func (c *Client) SetNames(context.Context, string, []dns.Record, bool) error { return errLater }
func (c *Client) RemoveNames(context.Context, string, []string) error        { return errLater }
func (c *Client) KeepZones(context.Context, []string) error                  { return errLater }
