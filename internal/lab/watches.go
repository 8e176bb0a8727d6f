package lab

// Watches are what LeakCheck looks at on this host, for callers that put a check
// of their own together.
func (h *Host) Watches() []Watch { return h.watches() }
