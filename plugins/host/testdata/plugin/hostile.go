package main

import (
	"context"

	"github.com/locker-project/locker/plugins"
)

type hostile struct{}

func (hostile) Run(ctx context.Context, env plugins.AppEnv) error { return nil }

func raw(string) {}
