package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/locker-project/locker/plugins"
)

// notifyEvery is how often a cloud is asked for changes that does not tell by itself.
const notifyEvery = 10 * time.Second

// pushes are the backends that answer when something changes, and so can be asked
// again at once.
var pushes = []string{"dropbox", "pcloud"}

func (o *opened) notifyEvery() time.Duration {
	if slices.Contains(pushes, o.kind) {
		return 0
	}
	return notifyEvery
}

// Changes tells of objects that change, where rclone's backend can.
func (c *cloud) Changes(ctx context.Context, changed func(name string)) error {
	o, err := c.get(ctx)
	if err != nil {
		return err
	}
	watch := o.fs.Features().ChangeNotify
	if watch == nil {
		return errors.ErrUnsupported
	}
	for _, folder := range folders { // some tell only of folders that they have looked up
		_, _ = o.fs.NewObject(o.with(ctx), folder+"/none")
	}
	every := make(chan time.Duration)
	defer close(every)
	watch(o.with(ctx), func(path string, _ fs.EntryType) {
		if objectName.MatchString(path) || path == "" || slices.Contains(folders, path) {
			changed(path)
		}
	}, every)
	select {
	case every <- max(o.notifyEvery(), time.Second):
		<-ctx.Done()
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Describe tells what the remote can do. How much room there is it asks the remote.
func (c *cloud) Describe(ctx context.Context) (plugins.RemoteTraits, error) {
	o, err := c.get(ctx)
	if err != nil {
		return plugins.RemoteTraits{}, err
	}
	f := o.fs.Features()
	t := plugins.RemoteTraits{
		Notifies: f.ChangeNotify != nil, NotifyEvery: o.notifyEvery(), FoldCase: f.CaseInsensitive,
		Duplicates: o.duplicates, Moves: o.move, Conditional: o.kind == "s3",
	}
	if p := o.fs.Precision(); p != fs.ModTimeNotSupported {
		t.Precision = p
	}
	if usage := o.usage(o.with(ctx)); usage != nil && usage.Free != nil {
		t.Sized, t.Free = true, *usage.Free
		if usage.Used != nil {
			t.Used = *usage.Used
		}
	}
	return t, nil
}

// usage is what the remote says of its room; nil if it does not.
func (o *opened) usage(ctx context.Context) *fs.Usage {
	about := o.fs.Features().About
	if about == nil {
		return nil
	}
	usage, err := about(ctx)
	if err != nil {
		return nil
	}
	return usage
}
