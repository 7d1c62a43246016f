//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/locker-project/locker/plugins"
)

// The hostile app is for Linux, where there is something to break out of.
type hostile struct{}

func (hostile) Run(context.Context, plugins.AppEnv) error { return errors.New("only on Linux") }

type spy struct{ remote }
