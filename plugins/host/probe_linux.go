package host

import (
	"context"
	"errors"
	"os"
)

// Probe finds out, by trying, how processes are confined on this machine. It
// takes some ten milliseconds.
func Probe(ctx context.Context) Mode {
	err := probe(ctx, allLayers)
	if err == nil {
		return (&child{layers: allLayers}).mode()
	}
	why := err.Error()
	var stage *stageError
	if !errors.As(err, &stage) || stage.stage != stageNamespaces {
		return Mode{Why: why}
	}
	if landlockVersion() < 1 {
		return Mode{Why: why + ", and the kernel has no Landlock either: plugins do not start"}
	}
	if err := probe(ctx, fallbackLayers); err != nil {
		return Mode{Why: why + "; " + err.Error()}
	}
	return (&child{layers: fallbackLayers, why: why}).mode()
}

// probe starts the shim, lets it set up the layers, and lets it end there.
func probe(ctx context.Context, l layers) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	dir, err := os.MkdirTemp("", "locker-probe-")
	if err != nil {
		return err
	}
	life, end := context.WithCancel(context.Background())
	c := &child{
		spec: Spec{Name: "probe"}.withDefaults(), program: &program{File: self}, layers: l, probe: true,
		words: newWords(life, nil), end: end, done: make(chan struct{}), dir: dir,
	}
	defer c.clean()
	defer c.kill()
	if err := c.Start(ctx); err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !c.state.Success() {
		return errors.New("the trial ended: " + c.ended())
	}
	return nil
}
