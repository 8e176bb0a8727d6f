package logs

import (
	"os"

	"golang.org/x/sys/unix"
)

// watcher tells when a file was written to, renamed or removed. Where inotify cannot be had (its
// instances are limited per user, inotify(7)), it stays silent and the caller's
// poll is what remains.
type watcher struct {
	changed chan struct{}
	f       *os.File
}

func newWatcher(path string) *watcher {
	w := &watcher{changed: make(chan struct{}, 1)}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return w
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_MOVE_SELF|unix.IN_ATTRIB); err != nil {
		unix.Close(fd)
		return w
	}
	w.f = os.NewFile(uintptr(fd), "inotify")
	go w.read()
	return w
}

func (w *watcher) read() {
	// Which event it was does not matter: whoever hears looks at the file.
	buf := make([]byte, 4096)
	for {
		if _, err := w.f.Read(buf); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) close() {
	if w != nil && w.f != nil {
		w.f.Close()
	}
}
