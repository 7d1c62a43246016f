//go:build (linux && !android) || (darwin && !ios) || windows

package remote

import "github.com/syncthing/notify"

// systemWatcher is the fileWatcher of this system.
type systemWatcher struct{}

// waiting is how many events of a folder may wait.
const waiting = 256

func (systemWatcher) watch(dir string, changed func(path string, full bool)) (func(), error) {
	events := make(chan notify.EventInfo, waiting)
	if err := notify.Watch(dir, events, notify.Create|notify.Write|notify.Rename); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case e := <-events:
				changed(e.Path(), len(events) >= waiting-1)
			case <-done:
				return
			}
		}
	}()
	return func() { notify.Stop(events); close(done) }, nil
}
