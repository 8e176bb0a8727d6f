package docker

import "linkspan/cnm"

// imageRoutes and volumeRoutes stand here until image.go and volume.go bring
// theirs: whoever adds one deletes it here.

func (s *server) imageRoutes() []route {
	later := func(*call) error { return cnm.Unsupported("not yet: the image part of the API is not served") }
	return []route{
		get("/images/json", later), get("/images/{name...}/json", later), post("/images/create", later),
	}
}

func (s *server) volumeRoutes() []route {
	later := func(*call) error { return cnm.Unsupported("not yet: the volume part of the API is not served") }
	return []route{get("/volumes", later), get("/volumes/{name}", later), post("/volumes/create", later)}
}
