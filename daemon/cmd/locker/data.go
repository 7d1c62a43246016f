package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
	"github.com/locker-project/locker/plugins/locker"
)

func (c *cli) importCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import [--dry-run] PATH...",
		Short: "Take in exports: files, archives or folders of them",
		Long: `Import looks at each file, lets the connector that knows its content read it, and
says what it found: records that are new, the same, changed, or could not be read.
Files that no connector knows are named. Importing a file again adds nothing.`,
		Example: `  locker import ~/Downloads/twitter-archive.zip
  locker import --dry-run ~/bank/*.csv`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := daemon.ImportParams{DryRun: dryRun}
			for _, arg := range args {
				abs, err := filepath.Abs(arg)
				if err != nil {
					return err
				}
				if _, err := os.Stat(abs); err != nil {
					return &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("cannot read %s: %v", arg, err), Next: "check the path"}
				}
				params.Paths = append(params.Paths, abs)
			}
			var raw json.RawMessage
			failed := 0
			err := c.call(cmd.Context(), "import", "import", params, nil, func(line json.RawMessage) error {
				var f daemon.FileReport
				if err := json.Unmarshal(line, &f); err != nil {
					return err
				}
				failed += len(f.Failed) + f.More
				if c.json {
					return c.line(line)
				}
				c.clearProgress()
				c.showFile(f)
				return nil
			}, &raw)
			if err != nil {
				return err
			}
			if !c.json {
				if err := printOne(c, raw, func(s daemon.ImportSummary) error { c.showImport(s, dryRun); return nil }); err != nil {
					return err
				}
			}
			if failed > 0 {
				return &daemon.Error{Code: daemon.CodeFailed, Message: fmt.Sprintf("%d of what the files hold could not be read", failed), Next: "what could be read is in; mend or leave the places named above"}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would come in, and store nothing")
	return cmd
}

// showFile prints what an import found in one file.
func (c *cli) showFile(f daemon.FileReport) {
	if f.Connector == nil && len(f.Failed) > 0 {
		c.say("! %s: %s", f.Path, f.Failed[0].Why)
		return
	}
	if f.Connector == nil {
		note := f.Note
		if note == "" {
			note = "no connector knows this file; it was left alone"
		}
		c.say("? %s: %s", f.Path, note)
		return
	}
	line := fmt.Sprintf("  %s (%s): %d new, %d same, %d changed", f.Path, *f.Connector, f.New, f.Same, f.Changed)
	if f.Note != "" {
		line += ": " + f.Note
	}
	c.say("%s", line)
	for _, x := range f.Failed {
		c.say("! %s, %s: %s", f.Path, x.At, x.Why)
	}
	if f.More > 0 {
		c.say("! %s: and %d more", f.Path, f.More)
	}
}

func (c *cli) showImport(s daemon.ImportSummary, dryRun bool) {
	would := ""
	if dryRun {
		would = "would be "
	}
	c.say("%d files: %d records %snew, %d same, %d changed, %d failed, %d files unknown", s.Files, s.New, would, s.Same, s.Changed, s.Failed, s.Unknown)
	if s.Resumed {
		c.say("an import of these paths that was cut off is complete now")
	}
	if s.Import != "" && !dryRun {
		c.say("imported as %s; take it back with 'locker undo %s'", s.Import, s.Import)
	}
}

func (c *cli) importsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "imports",
		Short:   "List what was imported, and when",
		Example: "  locker imports",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := c.table()
			none := true
			err := list(c, cmd.Context(), "imports", "imports", struct{}{}, func(i daemon.ImportInfo) error {
				if none {
					fmt.Fprintln(t, "IMPORT\tWHEN\tSTATE\tNEW\tSAME\tCHANGED\tFAILED\tFROM")
					none = false
				}
				state := i.State
				if i.CutOff {
					state = "cut off" // the same import again completes it
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", i.Import, i.Time.Local().Format("2006-01-02 15:04"), state, i.New, i.Same, i.Changed, i.Failed, plain(strings.Join(i.Paths, ", ")))
				return nil
			})
			if err != nil || c.json {
				return err
			}
			if none {
				c.say("nothing was imported yet; try 'locker import PATH'")
			}
			return t.Flush()
		},
	}
}

func (c *cli) undoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "undo IMPORT",
		Short: "Take back exactly one import",
		Long: `Undo removes what an import brought and gives what it changed its former values
back. What you edited yourself since then stays. The file can be imported again.`,
		Example: "  locker imports\n  locker undo i-20260104-k3q8",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return one(c, cmd.Context(), "undo", "undo", daemon.ImportInfo{Import: args[0]}, func(s daemon.UndoSummary) error {
				c.say("%s taken back: %d records removed, %d given their former values", s.Import, s.Removed, s.Restored)
				return nil
			})
		},
	}
}

func (c *cli) queryCommand() *cobra.Command {
	var fields, since, until string
	var params daemon.QueryParams
	cmd := &cobra.Command{
		Use:   "query COLLECTION",
		Short: "Print records of a collection, in order of time",
		Long: `Query prints records of one collection, oldest first.

A filter compares fields with values: amount < -100, payee ~ "coop" (contains),
currency = "CHF" and not (kind = "fee"). Beside fields it knows id, time, source
and import.`,
		Example: `  locker query transactions --where 'amount < -100 and currency = "CHF"' --since 90d
  locker query posts --fields content,url --limit 3 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params.Collection = args[0]
			if params.Limit < 0 {
				return &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("--limit %d is less than nothing", params.Limit), Next: "leave it out to print all"}
			}
			params.Fields = splitList(fields)
			var err error
			if params.Since, err = parseTime(since, time.Now()); err != nil {
				return err
			}
			if params.Until, err = parseTime(until, time.Now()); err != nil {
				return err
			}
			n := 0
			err = list(c, cmd.Context(), "query", "query", params, func(r locker.Record) error {
				n++
				c.say("%s", oneLine(r))
				return nil
			})
			if err == nil && n == 0 && !c.json {
				fmt.Fprintln(c.err, "no record matches; 'locker status' lists the collections")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&fields, "fields", "", "fields to print, separated by commas")
	f.StringVar(&params.Where, "where", "", "filter, such as 'amount < 0'")
	f.StringVar(&since, "since", "", "from this time on (2024-05-01, or 30d for the last 30 days)")
	f.StringVar(&until, "until", "", "before this time")
	f.IntVar(&params.Limit, "limit", 0, "print at most so many")
	f.BoolVar(&params.Descending, "desc", false, "latest first")
	return cmd
}

// oneLine prints a record on one line: when, id, and the fields.
func oneLine(r locker.Record) string {
	when := "-"
	if !r.Time.IsZero() {
		when = r.Time.Format("2006-01-02 15:04")
	}
	text := string(r.Fields)
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	return strings.ReplaceAll(fmt.Sprintf("%s  %s  %s", when, r.ID, text), "\n", " ")
}

func (c *cli) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "get COLLECTION ID",
		Short:   "Print one record",
		Example: "  locker get contacts contacts:4fae-91",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return one(c, cmd.Context(), "get", "get", daemon.RecordParams{Collection: args[0], ID: args[1]}, func(r json.RawMessage) error {
				pretty, err := json.MarshalIndent(r, "", "  ")
				if err != nil {
					return err
				}
				c.say("%s", pretty)
				return nil
			})
		},
	}
}

func (c *cli) putCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "put COLLECTION",
		Short: "Write records, given as JSON lines on standard input",
		Long: `Put writes records, all of them or none: one JSON object a line, with "id", "time"
and "fields". Given fields replace what is there, null removes one, others stay.`,
		Example: `  echo '{"id":"n1","time":"2026-01-04T10:00:00Z","fields":{"name":"Shopping","text":"milk"}}' | locker put notes`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "put", "put", daemon.RecordParams{Collection: args[0], Source: source}, c.in, nil, &raw); err != nil {
				return err
			}
			return printOne(c, raw, func(s daemon.PutSummary) error {
				c.say("%d new, %d same, %d changed", s.New, s.Same, s.Changed)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "write as this source, whose values never replace what you edited yourself")
	return cmd
}

func (c *cli) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete COLLECTION ID",
		Short:   "Delete one record, on every device",
		Example: "  locker delete notes n1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return one(c, cmd.Context(), "delete", "delete", daemon.RecordParams{Collection: args[0], ID: args[1]}, func(daemon.PutSummary) error {
				c.say("deleted %s %s; a later import does not bring it back", args[0], args[1])
				return nil
			})
		},
	}
}

func (c *cli) blobCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "blob", Short: "Read large bytes: pictures, attachments, raw exports"}
	var out, part string
	get := &cobra.Command{
		Use:     "get ID",
		Short:   "Write a blob to standard output or a file",
		Example: "  locker blob get b3f0… --out portrait.jpg",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			w := c.out
			if out != "" {
				f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer func() {
					if cerr := f.Close(); err == nil {
						err = cerr
					}
					if err != nil {
						os.Remove(out)
					}
				}()
				w = f
			}
			return c.call(cmd.Context(), "blob get", "blob.get", daemon.BlobParams{ID: args[0], Range: part}, nil, func(raw json.RawMessage) error {
				return writeBase64(w, raw)
			}, nil)
		},
	}
	get.Flags().StringVarP(&out, "out", "o", "", "file to write, which must not exist")
	get.Flags().StringVar(&part, "range", "", "only this part: FIRST-LAST, FIRST- or -COUNT, in bytes from 0 on")
	cmd.AddCommand(get, c.cacheCommand())
	return cmd
}

// writeBase64 writes the bytes that a JSON string holds in base64.
func writeBase64(w io.Writer, raw json.RawMessage) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// splitList splits a list at commas; an empty one is nil.
func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
