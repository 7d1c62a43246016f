package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/locker-project/locker/daemon"
)

// homeDir is the folder of the locker: --home, LOCKER_HOME, or the usual place.
func (c *cli) homeDir() (daemon.Home, error) {
	dir := c.home
	if dir == "" {
		dir = os.Getenv("LOCKER_HOME")
	}
	if dir == "" {
		return daemon.DefaultHome()
	}
	abs, err := filepath.Abs(dir)
	return daemon.Home(abs), err
}

// options tells how to open a locker in this process.
func (c *cli) options() daemon.Options {
	return daemon.Options{Version: version, Passphrase: c.passphrase, Logger: c.logger()}
}

// logger writes to standard error: warnings, or everything with --verbose.
func (c *cli) logger() *slog.Logger {
	level := slog.LevelError
	if c.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
}

// call connects to the locker and sends one call.
func (c *cli) call(ctx context.Context, command, name string, params any, input io.Reader, row func(json.RawMessage) error, end any) error {
	home, err := c.homeDir()
	if err != nil {
		return err
	}
	client, err := daemon.Connect(ctx, home, "locker "+command, c.options())
	if err != nil {
		return err
	}
	err = client.Call(ctx, name, params, input, daemon.Handler{Row: row, Progress: c.progress}, end)
	c.clearProgress()
	return errors.Join(err, client.Close())
}

// list sends a call and prints its rows: as JSON lines, or each through show.
func list[T any](c *cli, ctx context.Context, command, name string, params any, show func(T) error) error {
	return c.call(ctx, command, name, params, nil, func(raw json.RawMessage) error {
		if c.json {
			return c.line(raw)
		}
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		return show(v)
	}, nil)
}

// one sends a call and prints its summary: as JSON, or through show.
func one[T any](c *cli, ctx context.Context, command, name string, params any, show func(T) error) error {
	var raw json.RawMessage
	if err := c.call(ctx, command, name, params, nil, nil, &raw); err != nil {
		return err
	}
	return printOne(c, raw, show)
}

func printOne[T any](c *cli, raw json.RawMessage, show func(T) error) error {
	if c.json {
		return c.line(raw)
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	return show(v)
}

// line prints one JSON value on one line.
func (c *cli) line(raw []byte) error {
	_, err := c.out.Write(append(bytes.TrimSpace(raw), '\n'))
	return err
}

// value prints v as one line of JSON.
func (c *cli) value(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.line(raw)
}

// say prints a line for people, with what came from outside made harmless.
func (c *cli) say(format string, args ...any) {
	fmt.Fprintln(c.out, plain(fmt.Sprintf(format, args...)))
}

// table returns a writer that aligns cells separated by tabs; flush it.
func (c *cli) table() *tabwriter.Writer { return tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0) }

// progress shows how far a long call has come, where somebody is looking.
func (c *cli) progress(p daemon.Progress) {
	if c.json || !isTerminal(c.err) {
		return
	}
	c.progressShown = true
	if p.Total > 0 {
		fmt.Fprintf(c.err, "\r\x1b[K%s  %d of %d (%d %%)", plain(p.Doing), p.Done, p.Total, 100*p.Done/p.Total)
		return
	}
	fmt.Fprintf(c.err, "\r\x1b[K%s  %d", plain(p.Doing), p.Done)
}

func (c *cli) clearProgress() {
	if c.progressShown {
		fmt.Fprint(c.err, "\r\x1b[K")
		c.progressShown = false
	}
}

// plain replaces control characters: text from outside must not drive a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// passphrase gets the passphrase: from the file named by the flag or the
// environment, or from the terminal. Where there is neither it says what to do.
func (c *cli) passphrase() (string, error) {
	name := c.passphraseFile
	if name == "" {
		name = os.Getenv("LOCKER_PASSPHRASE_FILE")
	}
	if name != "" {
		return firstLine(name, "passphrase")
	}
	if !isTerminal(c.in) {
		return "", &daemon.Error{Code: daemon.CodeRefused, Message: "the locker is protected by a passphrase, and there is no terminal to ask for it",
			Next: "name a file with --passphrase-file or LOCKER_PASSPHRASE_FILE"}
	}
	return c.ask("Passphrase: ")
}

// newPassphrase gets the passphrase for a new device file; empty is none.
func (c *cli) newPassphrase() (string, error) {
	if c.passphraseFile != "" || os.Getenv("LOCKER_PASSPHRASE_FILE") != "" {
		return c.passphrase()
	}
	if !isTerminal(c.in) {
		return "", nil
	}
	first, err := c.ask("Passphrase to protect this device's keys (empty for none): ")
	if err != nil || first == "" {
		return "", err
	}
	second, err := c.ask("Once more: ")
	if err == nil && first != second {
		err = &daemon.Error{Code: daemon.CodeUsage, Message: "the two passphrases differ", Next: "run the command again"}
	}
	return first, err
}

// ask reads a line from the terminal without showing it.
func (c *cli) ask(prompt string) (string, error) {
	fmt.Fprint(c.err, prompt)
	line, err := term.ReadPassword(int(c.in.(*os.File).Fd()))
	fmt.Fprintln(c.err)
	return string(line), err
}

// firstLine reads the first line of a file that holds a secret.
func firstLine(name, what string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("cannot read the %s: %v", what, err)}
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("cannot read the %s: %w", what, err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("the first line of %s, which should be the %s, is empty", name, what)}
	}
	return line, nil
}

// parseTime reads a point in time: RFC 3339, a date, a date and time, or an age
// such as 30d, 12h, 2w.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01", "2006"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if n := len(s); n > 1 {
		var count int
		if _, err := fmt.Sscanf(s[:n-1]+" ", "%d ", &count); err == nil && count >= 0 && fmt.Sprint(count) == s[:n-1] {
			switch s[n-1] {
			case 'h':
				return now.Add(-time.Duration(count) * time.Hour), nil
			case 'd':
				return now.AddDate(0, 0, -count), nil
			case 'w':
				return now.AddDate(0, 0, -7*count), nil
			case 'y':
				return now.AddDate(-count, 0, 0), nil
			}
		}
	}
	return time.Time{}, &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("%q is no time", s), Next: "write 2024-05-01, 2024-05-01T18:00:00+02:00, or an age such as 30d"}
}

// ago says how long ago a time was.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d < 0:
		return t.Local().Format("2006-01-02 15:04")
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	default:
		return fmt.Sprintf("%d days ago", d/(24*time.Hour))
	}
}

// size prints a number of bytes for people.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 4 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGTP"[prefix])
}
