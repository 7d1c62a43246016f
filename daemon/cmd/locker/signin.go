package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/locker-project/locker/daemon"
	"github.com/locker-project/locker/daemon/remote/signin"
)

// signInFlag adds the flag that says how to sign in to a cloud.
func signInFlag(f *pflag.FlagSet, how *string) {
	f.StringVar(how, "sign-in", "browser", "how to sign in to a cloud that needs it: browser, paste (open the page elsewhere), or code")
}

// signedIn returns the spec of a remote, after its owner has signed in where that cloud
// needs it.
func (c *cli) signedIn(ctx context.Context, spec, file, how string) (string, error) {
	spec, err := remoteSpec(spec, file)
	if err != nil || spec == "" || !daemon.NeedsSignIn(spec) {
		return spec, err
	}
	ui := signin.UI{Show: c.showPage}
	switch how {
	case "browser":
	case "paste":
		ui.Paste = c.paste
	case "code":
		ui.Device = true
	default:
		return "", &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("%q is no way to sign in", how), Next: "write --sign-in browser, paste or code"}
	}
	if ui.Paste == nil && isTerminal(c.in) && !ui.Device {
		ui.Paste = c.paste
	}
	return daemon.SignIn(ctx, c.options(), spec, ui)
}

// showPage tells the owner which page to open. It opens no browser by itself: what is
// opened, and in which one, is theirs to see first.
func (c *cli) showPage(p signin.Page) error {
	var b strings.Builder
	for _, note := range p.Notes {
		fmt.Fprintf(&b, "%s\n", note)
	}
	fmt.Fprintf(&b, "Open this page and sign in:\n\n    %s\n\n", p.URL)
	if p.Code != "" {
		fmt.Fprintf(&b, "and type there: %s\n", p.Code)
	}
	if !p.Until.IsZero() {
		fmt.Fprintf(&b, "It works until %s.\n", p.Until.Local().Format("15:04"))
	}
	if p.Listens {
		b.WriteString("In a browser on this computer nothing more is needed. On another one, the page leads\nto an address that cannot be opened: paste that address here.\n")
	}
	_, err := io.WriteString(c.err, plain(b.String()))
	return err
}

// paste reads the address to which the page led.
func (c *cli) paste(ctx context.Context, why error) (string, error) {
	if why != nil {
		fmt.Fprintf(c.err, "That cannot be it: %s\n", plain(why.Error()))
	}
	fmt.Fprint(c.err, "Address: ")
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() { // reading a terminal knows no end; it ends with the process
		line, err := bufio.NewReader(io.LimitReader(c.in, 16<<10)).ReadString('\n')
		if errors.Is(err, io.EOF) && line != "" {
			err = nil
		}
		read <- result{strings.TrimSpace(line), err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return "", ctx.Err()
	}
}
