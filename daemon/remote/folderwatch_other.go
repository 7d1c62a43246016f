//go:build !((linux && !android) || (darwin && !ios) || windows)

package remote

import "errors"

// systemWatcher tells nothing here: phones ask.
type systemWatcher struct{}

func (systemWatcher) watch(string, func(string, bool)) (func(), error) {
	return nil, errors.ErrUnsupported
}
