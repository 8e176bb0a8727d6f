package docker

import (
	"net/http"
	"net/url"
	"strings"
)

// handler answers one request; an error it returns becomes the answer.
type handler func(*call) error

// route is one line of the API. A pattern's {x} takes one segment of the path,
// {x...} one or more, also in the middle (image names contain slashes).
type route struct {
	method  string
	pattern string
	handle  handler
}

// router finds routes by their first segment, then in the order of declaration.
type router map[string][]compiled

type compiled struct {
	route
	segments []string
}

func newRouter(routes []route) router {
	rt := router{}
	for _, r := range routes {
		segs := strings.Split(strings.Trim(r.pattern, "/"), "/")
		rt[segs[0]] = append(rt[segs[0]], compiled{route: r, segments: segs})
	}
	return rt
}

// named are the routes, each of which tells the call its pattern.
func named(routes []route) []route {
	for i, r := range routes {
		routes[i].handle = func(c *call) error {
			c.pattern = r.pattern
			return r.handle(c)
		}
	}
	return routes
}

// find returns the handler and what the pattern's names stand for. Segments are
// split before they are unescaped, so that "library%2Fnginx" is one.
func (rt router) find(method, escaped string) (handler, map[string]string) {
	path := strings.Split(strings.Trim(escaped, "/"), "/")
	for i, p := range path {
		if u, err := url.PathUnescape(p); err == nil {
			path[i] = u
		}
	}
	for _, r := range rt[path[0]] {
		if r.method != method {
			continue
		}
		vars := map[string]string{}
		if match(r.segments, path, vars) {
			return r.handle, vars
		}
	}
	return nil, nil
}

// match binds the pattern's names. {x...} takes as much as leaves the rest of
// the pattern something to match.
func match(pattern, path []string, vars map[string]string) bool {
	for i, p := range pattern {
		name, isVar := strings.CutPrefix(p, "{")
		name = strings.TrimSuffix(name, "}")
		if many, ok := strings.CutSuffix(name, "..."); isVar && ok {
			rest := pattern[i+1:]
			n := len(path) - len(rest)
			if n <= i || !match(rest, path[n:], vars) {
				return false
			}
			vars[many] = strings.Join(path[i:n], "/")
			return true
		}
		if i >= len(path) || isVar && path[i] == "" || !isVar && path[i] != p {
			return false
		}
		if isVar {
			vars[name] = path[i]
		}
	}
	return len(pattern) == len(path)
}

// get, head, post, put and del write a route in one line.
func get(pattern string, h handler) route  { return route{http.MethodGet, pattern, h} }
func head(pattern string, h handler) route { return route{http.MethodHead, pattern, h} }
func post(pattern string, h handler) route { return route{http.MethodPost, pattern, h} }
func put(pattern string, h handler) route  { return route{http.MethodPut, pattern, h} }
func del(pattern string, h handler) route  { return route{http.MethodDelete, pattern, h} }
