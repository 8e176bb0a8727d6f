package ui

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// policy lets a page load what is served here, and nothing run that is written into
// it; STYLE is replaced by the hashes of a picture's own style sheet.
const policy = "default-src 'none'; style-src 'self'STYLE; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard holds what is the same for every request: nobody's page but our own may read
// this one.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", strings.Replace(policy, "STYLE", "", 1))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		// A name that somebody else's DNS leads to 127.0.0.1 (DNS rebinding) is in the
		// browser's Host header: only the loopback's own names are answered.
		if !local(r.Host) {
			http.Error(w, "This page answers as localhost, 127.0.0.1 or [::1] only, and not as "+r.Host+". From another machine: ssh -L 7700:127.0.0.1:7700 HOST, then http://localhost:7700/", http.StatusMisdirectedRequest)
			return
		}
		// Another site may lead here by a link, and load nothing.
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			http.Error(w, "This page is not for other sites to load.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local says whether a Host header names the loopback, with whatever port: an ssh
// tunnel has its own.
func local(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, 6.3
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}
