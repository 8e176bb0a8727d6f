package docker

import (
	"context"
	"net/http"

	"linkspan/cnm"
	"linkspan/image"

	"github.com/moby/moby/api/types/registry"
)

// loginer is an image service that can try a login at a registry.
type loginer interface {
	// Login returns an identity token, or "" when the password itself serves.
	Login(ctx context.Context, server string, auth image.Auth) (token string, err error)
}

// login tries a registry login; the client keeps it, the daemon does not.
func (s *server) login(c *call) error {
	var body registry.AuthConfig
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	l, ok := s.Images.(loginer)
	if !ok {
		return cnm.Unsupported("not yet: a login at %s is not tried by the daemon; a login kept in the client's config file is used by pull", or(body.ServerAddress, "docker.io"))
	}
	token, err := l.Login(c.Context(), body.ServerAddress, image.Auth{
		Username: body.Username, Password: body.Password,
		IdentityToken: body.IdentityToken, RegistryToken: body.RegistryToken,
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, registry.AuthResponse{IdentityToken: token, Status: "Login Succeeded"})
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
