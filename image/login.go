package image

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"linkspan/cnm"
)

// Login tries a login at a registry: it asks for /v2/ as that user. The token
// is empty: the client keeps the password.
func (s *Store) Login(ctx context.Context, server string, auth Auth) (token string, err error) {
	host := registryHost(server)
	if host == "docker.io" {
		host = s.hub
	}
	n := s.session(&auth)
	defer n.close()
	h, err := n.host(ctx, "https", host, n.auth)
	if err != nil {
		return "", err
	}
	var answers []*http.Response
	// The first answer is the challenge, the second the verdict.
	for {
		u := url.URL{Scheme: h.Scheme, Host: h.Host, Path: h.Path + "/"}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return "", cnm.Invalid("login: %q is no registry: %w", server, err)
		}
		req.Header = n.header()
		if err := h.Authorizer.Authorize(ctx, req); err != nil {
			return "", cnm.Errorf(cnm.ErrForbidden, "login attempt to %s failed: unauthorized: incorrect username or password: %w", &u, err)
		}
		resp, err := h.Client.Do(req)
		if err != nil {
			return "", cnm.Errorf(cnm.ErrUnavailable, "login attempt to %s failed: %w", &u, err)
		}
		resp.Body.Close()
		answers = append(answers, resp)
		switch {
		case resp.StatusCode < 300:
			return "", nil
		case resp.StatusCode != http.StatusUnauthorized || len(answers) > 1:
			return "", cnm.Errorf(cnm.ErrForbidden, "login attempt to %s failed with status: %s", &u, resp.Status)
		}
		if err := h.Authorizer.AddResponses(ctx, answers); err != nil {
			return "", cnm.Errorf(cnm.ErrForbidden, "login attempt to %s failed: %w", &u, err)
		}
	}
}

// registryHost is the host in what clients call a registry: "quay.io",
// "https://quay.io/v2/", and for the Docker Hub "https://index.docker.io/v1/".
func registryHost(server string) string {
	_, rest, ok := strings.Cut(server, "://")
	if !ok {
		rest = server
	}
	host, _, _ := strings.Cut(rest, "/")
	switch host {
	case "", "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
