package image

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"google.golang.org/grpc"

	"linkspan/cnm"
)

// classify gives an error of containerd our class and says what it was about.
// An error that has one of our classes keeps it.
func classify(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	switch {
	case isFull(err):
		return cnm.Errorf(cnm.ErrExhausted, "%s: no space left on containerd's disk; `docker image prune` frees some: %w", what, err)
	//lint:ignore SA1019 containerd's client answers with it when its connection was closed
	case errdefs.IsUnavailable(err), errors.Is(err, grpc.ErrClientConnClosing), errdefs.IsDeadlineExceeded(err):
		return cnm.Errorf(cnm.ErrUnavailable, "%s: containerd does not answer: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isFull knows a full disk also from containerd's words: the error number does
// not travel over gRPC.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, cnm.ErrExhausted) ||
		strings.Contains(err.Error(), syscall.ENOSPC.Error()) || strings.Contains(err.Error(), syscall.EDQUOT.Error())
}

// pullError turns what came of asking registries into Docker's words, which
// clients match, and adds the cure where Docker has none.
func pullError(ref reference.Named, err error) error {
	var status remoteerrors.ErrUnexpectedStatus
	isStatus := errors.As(err, &status)
	switch {
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return denied(ref, "denied: requested access to the resource is denied")
	case isStatus && !isClassed(err) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return denied(ref, or(registrySays(status.Body), "unauthorized: authentication required"))
	case isStatus && !isClassed(err) && status.StatusCode == http.StatusNotFound, errdefs.IsNotFound(err) && !isClassed(err):
		return cnm.NotFound("manifest for %s not found: manifest unknown: manifest unknown", reference.FamiliarString(ref))
	case errdefs.IsNotImplemented(err) && strings.Contains(err.Error(), "auth scheme"):
		return denied(ref, "no basic auth credentials")
	}
	return registryError("pulling", ref, err)
}

// registryError is what pull and push share; verb says which it is.
func registryError(verb string, ref reference.Named, err error) error {
	var status remoteerrors.ErrUnexpectedStatus
	var op *url.Error
	switch {
	case err == nil, isClassed(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &op):
		return err
	case errors.As(err, &status):
		return statusError(verb, ref, status)
	case errdefs.IsNotImplemented(err):
		return cnm.Unsupported("not yet: %s: %w", reference.FamiliarString(ref), err)
	}
	return connectError(verb, ref, err)
}

// isClassed says that an error has been put into our words already.
func isClassed(err error) bool {
	for _, class := range []error{cnm.ErrNotFound, cnm.ErrConflict, cnm.ErrInvalid, cnm.ErrUnavailable, cnm.ErrUnsupported, cnm.ErrForbidden, cnm.ErrExhausted} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

func denied(ref reference.Named, why string) error {
	return cnm.NotFound("pull access denied for %s, repository does not exist or may require 'docker login': %s", reference.FamiliarName(ref), why)
}

func statusError(verb string, ref reference.Named, e remoteerrors.ErrUnexpectedStatus) error {
	name, said := reference.FamiliarString(ref), registrySays(e.Body)
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return cnm.Errorf(cnm.ErrForbidden, "%s %s: %s", verb, name, or(said, "unauthorized: authentication required"))
	case http.StatusTooManyRequests:
		return cnm.Errorf(cnm.ErrUnavailable, "%s %s: the registry takes no more requests for now: %s", verb, name, or(said, "toomanyrequests"))
	}
	return cnm.Errorf(cnm.ErrUnavailable, "%s %s: received unexpected HTTP status: %s (%s %s) %s", verb, name, e.Status, e.RequestMethod, e.RequestURL, said)
}

// registrySays reads the error list of a registry's answer
// (distribution-spec, "Error Codes").
func registrySays(body []byte) string {
	var list struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &list) != nil || len(list.Errors) == 0 {
		return ""
	}
	e := list.Errors[0]
	return strings.ToLower(strings.ReplaceAll(e.Code, "_", " ")) + ": " + e.Message
}

func connectError(verb string, ref reference.Named, err error) error {
	name, host := reference.FamiliarString(ref), reference.Domain(ref)
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var dns *net.DNSError
	switch {
	case errors.As(err, &unknown), errors.As(err, &hostname):
		return cnm.Errorf(cnm.ErrUnavailable, "%s %s: %w (put the registry's CA into /etc/docker/certs.d/%s/ca.crt, or start the daemon with --insecure-registry %s)", verb, name, err, host, host)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return cnm.Errorf(cnm.ErrUnavailable, "%s %s: %w (if it is meant to be without TLS, start the daemon with --insecure-registry %s)", verb, name, err, host)
	case errors.As(err, &dns):
		return cnm.Errorf(cnm.ErrUnavailable, "%s %s: the registry's name does not resolve: %w", verb, name, err)
	}
	var op net.Error
	if errors.As(err, &op) {
		return cnm.Errorf(cnm.ErrUnavailable, "%s %s: the registry cannot be reached: %w", verb, name, err)
	}
	return classify(err, "%s %s", verb, name)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
