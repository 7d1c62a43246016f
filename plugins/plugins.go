// Package plugins is all that the main function of an app, a connector or a
// remote calls: implement [App], [Connector] or [Remote] and hand it to [Serve].
//
// A plugin runs as a process of its own, started and confined by Locker. Its one
// channel is the pipe to the host; whatever it may do, it does through the
// values that its methods are given. An app has no network and no files.
//
// The package depends on go-plugin and gRPC; the vocabulary that it speaks is
// package locker beside it.
package plugins

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// An App answers questions about the data that its owner granted to it.
type App interface {
	// Run does the app's work once and returns. ctx ends when the owner revokes
	// the grant or the host stops the app.
	Run(ctx context.Context, env AppEnv) error
}

// An AppEnv is what a running app has.
type AppEnv struct {
	// View holds what the grant covers. Its errors say when something is not.
	View locker.View
	// Args are the words that the owner gave after the app's name.
	Args []string
	// Out takes what the app has to say to its owner.
	Out Output
}

// An Output shows plain text and tables to the owner. Markup is not interpreted
// and control characters are removed.
type Output interface {
	Text(s string) error
	Table(t Table) error
}

// A Table has a name for each column and rows of as many cells.
type Table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// A Connector reads the files of one kind of export.
//
// It decides by content: a file's name is a hint and may lie.
type Connector interface {
	// Recognise says how sure the connector is that it can read f: 0 is not at
	// all, 100 is certain. It reads little of the file and writes nothing.
	Recognise(ctx context.Context, f File) (confidence int, err error)
	// Parse reads f and puts what it finds into out. A record that cannot be
	// read is passed to out.Fail and parsing goes on; a returned error says that
	// the file as a whole is broken, and then nothing of it is kept.
	// A *FileError tells where.
	Parse(ctx context.Context, f File, out Sink) error
}

// A File is one file of an import, read through the host.
type File interface {
	Name() string // the path as the owner gave it, below the import's root
	Size() int64
	io.ReaderAt
}

// A Sink takes what a connector finds in one file. Nothing of the file is
// stored until Parse returns nil.
type Sink interface {
	// Put hands over records. The connector sets Collection, ID, Time, Fields and,
	// where one connector reads several accounts, Source; the gate puts the
	// connector's name before ID and Source, and checks Fields against the
	// collection's schema.
	Put(ctx context.Context, records ...locker.Record) error
	// Blob stores bytes beside the records and returns the id by which a field
	// refers to them.
	Blob(ctx context.Context, r io.Reader) (id string, err error)
	// Fail reports one record that could not be read: where ("line 12",
	// "STMTTRN 3") and why.
	Fail(at, why string)
	// Note tells the owner something about the file as a whole that is no failure:
	// what of it was left unread, what was assumed. The host shows the first few.
	Note(what string)
}

// A FileError says where in a file its content is broken.
type FileError struct {
	At  string // "line 12", "entry data/tweets.js"
	Why string
}

func (e *FileError) Error() string { return e.At + ": " + e.Why }

// A Remote keeps sealed objects in some cloud. It is given ciphertext and the
// credentials of that cloud, and never a key.
type Remote interface {
	// Open connects with a configuration and checks that the place can be used.
	Open(ctx context.Context, config RemoteConfig) error
	// Put stores size bytes under name, replacing what is there. The object is
	// durable when Put returns nil, and is never seen in part under its name
	// where the backend can help it.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// Get returns n bytes from off on; n < 0 reads to the end.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	// List yields the objects whose name begins with prefix.
	List(ctx context.Context, prefix string) iter.Seq2[RemoteObject, error]
	// Delete removes objects; one that is not there is no error.
	Delete(ctx context.Context, names ...string) error
}

// A RemoteConfig names a place in a cloud.
type RemoteConfig struct {
	// Type is the kind of backend, such as "webdav".
	Type string
	// Root is the folder or bucket below which all objects lie.
	Root string
	// Options are the backend's own, credentials among them.
	Options map[string]string
	// Known says that the host opened this place with these settings before, and it
	// worked: it need not be tried.
	Known bool
	// Keep takes a setting that the remote changed while it was open, such as a token
	// that was renewed, and returns when it is kept. Later processes get it among the
	// Options. nil keeps nothing. It may be called from several goroutines at once.
	Keep func(ctx context.Context, key, value string) error
}

// A RemoteNotifier is a [Remote] that can tell when objects change.
type RemoteNotifier interface {
	// Changes calls changed with the name of each object that anybody puts, as soon as
	// the place tells, until ctx ends. It returns errors.ErrUnsupported where the place
	// does not tell.
	Changes(ctx context.Context, changed func(name string)) error
}

// A RemoteDescriber is a [Remote] that can tell what its place is like.
type RemoteDescriber interface {
	Describe(ctx context.Context) (RemoteTraits, error)
}

// RemoteTraits are what a place can do, as far as that is known without trying.
type RemoteTraits = struct {
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

// A RemoteSigner is a [Remote] whose places have owners sign in with a browser.
// Neither of its methods needs Open.
type RemoteSigner interface {
	// BeginSignIn returns the page where the owner signs in. redirect is where the page
	// is to lead back to; empty is what the place's own registration says. device asks
	// for a page on which the owner types a code, and can do so on another machine.
	BeginSignIn(ctx context.Context, config RemoteConfig, redirect string, device bool) (SignInPage, error)
	// EndSignIn gives what came back and returns the settings that sign in from now on.
	EndSignIn(ctx context.Context, answer SignInAnswer) (map[string]string, error)
}

// A SignInPage is what the owner opens in a browser.
type SignInPage struct {
	URL      string
	Redirect string    // where the page leads back to; empty with a Code
	State    string    // what comes back must hold this
	Code     string    // what the owner types there; empty where nothing is typed
	Until    time.Time // when the page stops to work; zero is not known
	Notes    []string  // what the owner should know before, a sentence each
}

// A SignInAnswer is what came back: the query of the redirect, or a token that was got
// elsewhere. Both are empty where the owner types a code: then EndSignIn waits for it.
type SignInAnswer struct{ Query, Token string }

// A RemoteObject is one line of a listing.
type RemoteObject struct {
	Name    string
	Size    int64
	ModTime time.Time // zero where the backend has none
}
