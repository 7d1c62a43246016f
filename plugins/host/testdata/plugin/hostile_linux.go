package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/locker-project/locker/plugins"
)

// Targets are what the test has laid out for the hostile app to reach for.
type Targets struct {
	Secret   string // a file of the host
	Dir      string // a folder that everybody may write in
	Program  string // the file of this program
	Other    string // that of another
	TCP, UDP string // addresses on which the host listens
	Unix     string // the path of a socket of the host
	Abstract string // the abstract address of another
	Env      string // an environment variable of the host
	FD       int    // an open file of the host
	PID      int    // the host
	Address  uint64 // of eight bytes in the host's memory, which are "8 bytes!"
	Named    string // a file that a remote may read
	Machine  string // the name of the machine
}

// An attempt tries one thing. It returns nil if it worked and otherwise why not.
type attempt func(ctx context.Context, t *Targets, env plugins.AppEnv) error

var errEmpty = errors.New("there is nothing")

// hostile tries what its arguments name, and says of each how it went:
// "NAME" and a tab and "worked" or why not.
type hostile struct{}

func (hostile) Run(ctx context.Context, env plugins.AppEnv) error {
	var t Targets
	if err := json.Unmarshal([]byte(env.Args[0]), &t); err != nil {
		return err
	}
	for _, name := range env.Args[1:] {
		try, ok := attempts()[name]
		if !ok {
			return fmt.Errorf("no attempt %q", name)
		}
		result := "worked"
		if err := try(ctx, &t, env); err != nil {
			result = err.Error()
		}
		if err := env.Out.Text(name + "\t" + result); err != nil {
			return err
		}
	}
	return nil
}

func attempts() map[string]attempt {
	all := map[string]attempt{}
	for _, group := range []map[string]attempt{fileAttempts, channelAttempts, processAttempts, resourceAttempts, kernelAttempts, hostAttempts} {
		for name, a := range group {
			all[name] = a
		}
	}
	return all
}

// writable are the folders in which the app may be able to write.
func writable(t *Targets) []string {
	dirs := []string{t.Dir, os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), os.Getenv("TMPDIR"), "/tmp", "/run", "/dev/shm"}
	slices.Sort(dirs)
	return slices.DeleteFunc(slices.Compact(dirs), func(dir string) bool { return dir == "" })
}

// A spy is a remote that tries what its option "attempts" names when it is opened,
// and lists the results as objects.
type spy struct {
	remote
	results []string
}

func (s *spy) Open(ctx context.Context, c plugins.RemoteConfig) error {
	var t Targets
	if err := json.Unmarshal([]byte(c.Options["targets"]), &t); err != nil {
		return err
	}
	for _, name := range strings.Split(c.Options["attempts"], ",") {
		result := "worked"
		if err := attempts()[name](ctx, &t, plugins.AppEnv{}); err != nil {
			result = err.Error()
		}
		s.results = append(s.results, name+"\t"+result)
	}
	return nil
}

func (s *spy) List(context.Context, string) iter.Seq2[plugins.RemoteObject, error] {
	return func(yield func(plugins.RemoteObject, error) bool) {
		for _, r := range s.results {
			if !yield(plugins.RemoteObject{Name: r}, nil) {
				return
			}
		}
	}
}
