package posts

import (
	"context"
	"errors"

	"github.com/locker-project/locker/plugins"
)

// New returns the connector.
func New() plugins.Connector { return connector{} }

type connector struct{}

func (connector) Recognise(ctx context.Context, f plugins.File) (int, error) { return 0, nil }

func (connector) Parse(ctx context.Context, f plugins.File, out plugins.Sink) error {
	return errors.New("not yet")
}
