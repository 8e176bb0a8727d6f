package admin

import (
	"context"
	"net/http"

	"linkspan/cnm"
	"linkspan/diagnose"
	"linkspan/diagnose/rules"
)

// Rules is the door of `linkspan rules`: the page, or with ?as=iptables its translation.
func Rules(world func() *diagnose.World, see rules.Observer) Door {
	return Door{Pattern: "GET " + Prefix + "rules", Answer: func(r *http.Request) (any, error) {
		switch as := r.URL.Query().Get("as"); as {
		case "":
			return rules.Of(r.Context(), world(), see)
		case "iptables":
			return rules.AsIptables(r.Context(), world())
		default:
			return nil, cnm.Invalid("the rules cannot be shown as %q; iptables is known", as)
		}
	}}
}

// Rules asks for the firewall's page.
func (c Client) Rules(ctx context.Context) (*rules.Page, error) {
	var p rules.Page
	return &p, c.Ask(ctx, http.MethodGet, "rules", nil, &p)
}

// RulesAsIptables asks for its translation.
func (c Client) RulesAsIptables(ctx context.Context) (*rules.Iptables, error) {
	var t rules.Iptables
	return &t, c.Ask(ctx, http.MethodGet, "rules?as=iptables", nil, &t)
}
