package remote

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// Traits are what a place can do, as far as that is known without trying. The type is
// that of plugins.RemoteTraits.
type Traits = struct {
	Notifies    bool          // it tells when objects change,
	NotifyEvery time.Duration // by being asked so often; 0 is at once
	FoldCase    bool          // names that differ in case alone are one
	Duplicates  bool          // several objects can have one name
	Moves       bool          // objects are put under another name and renamed
	Conditional bool          // it can refuse to put over what is there
	Precision   time.Duration // of the times of objects; 0 is none
	Sized       bool          // whether the following are known
	Free, Used  int64         // bytes
}

// A describer is a remote, or a process, that knows its traits.
type describer interface {
	Describe(ctx context.Context) (Traits, error)
}

func describe(ctx context.Context, r any) (Traits, error) {
	if d, ok := r.(describer); ok {
		return d.Describe(ctx)
	}
	return Traits{}, errors.ErrUnsupported
}

// Describe tells what is known of the remote.
func (r *limited) Describe(ctx context.Context) (Traits, error) { return describe(ctx, r.remote) }

// Describe tells what is known of the remote.
func (b *Breaker) Describe(ctx context.Context) (t Traits, err error) {
	err = b.call(func() error {
		t, err = describe(ctx, b.remote)
		return err
	})
	return t, err
}

// Describe is for a process that knows.
func (c converted[O]) Describe(ctx context.Context) (Traits, error) { return describe(ctx, c.Client) }

// Describe tells what the cloud is like, as far as rclone knows.
func (p *PluginRemote) Describe(ctx context.Context) (t Traits, err error) {
	unknown := false
	err = p.do(ctx, func(ctx context.Context, c client, _ *watch) error {
		t, err = describe(ctx, c)
		if unknown = errors.Is(err, errors.ErrUnsupported); unknown {
			return nil
		}
		return err
	})
	if unknown {
		err = errors.ErrUnsupported
	}
	return t, err
}

// Describe tells what the folder's file system is like.
func (f *FolderRemote) Describe(ctx context.Context) (Traits, error) {
	root, err := f.open(ctx)
	if err != nil {
		return Traits{}, err
	}
	defer root.Close()
	t := Traits{Notifies: true, Moves: true, Conditional: true, Precision: time.Nanosecond}
	if t.FoldCase, err = foldsCase(root); err != nil {
		return t, folderFault(f.dir, err)
	}
	if t.Free, t.Used, err = room(f.dir); err == nil {
		t.Sized = true
	}
	return t, nil
}

// foldsCase makes a file and looks for it in capitals.
func foldsCase(root *os.Root) (bool, error) {
	const name, capitals = partPrefix + "case", ".PART-CASE"
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	err = file.Close()
	_, lookErr := root.Lstat(capitals)
	if !errors.Is(lookErr, fs.ErrNotExist) {
		err = errors.Join(err, lookErr)
	}
	return lookErr == nil, errors.Join(err, root.Remove(name))
}
