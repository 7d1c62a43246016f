package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	iofs "io/fs"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/lib/pacer"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/plugins/locker"
)

// When an error came.
type when string

const (
	atOpen   when = "connecting"
	atPut    when = "writing an object"
	atGet    when = "reading an object"
	atList   when = "listing"
	atDelete when = "deleting an object"
)

// fault says what an error of rclone's means. Errors that say it already, and that of
// a call that was cancelled, stay as they are.
func (o *opened) fault(ctx context.Context, err error, at when) error {
	var f *fault.Fault
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrorObjectNotFound), at == atGet && errors.Is(err, fs.ErrorDirNotFound):
		return locker.ErrNotFound
	}
	f = classify(err, at)
	f.What = string(at) + ": " + f.What + o.clean(err.Error())
	return f
}

// Errors that are known by their text alone.
var (
	slowDown  = regexp.MustCompile(`(?i)rate.?limit|too many requests|slow.?down|queries per|per second|throttl|try again later`)
	noRoom    = regexp.MustCompile(`(?i)quota|insufficient.?(space|storage)|no space left|storage.?(limit|full)|disk (is )?full|out of space|over.?limit`)
	noEntry   = regexp.MustCompile(`(?i)unable to authenticate|access.?denied|permission.?denied|unauthori[sz]ed|forbidden|login incorrect|logon failure|invalid.?(credentials|grant|token|access.?key)|token (is )?expired|empty token|signaturedoesnotmatch`)
	wrongHost = regexp.MustCompile(`(?i)knownhosts: key (mismatch|is unknown)|host key`)
	httpText  = regexp.MustCompile(`\b([45]\d\d)[: ]+[A-Z][a-z]+`)
)

// classify finds the kind of an error. What is a short introduction to its text.
func classify(err error, at when) *fault.Fault {
	status := statusOf(err)
	text := err.Error()
	pause, _ := pacer.IsRetryAfter(err)
	switch {
	case untrusted(err):
		return &fault.Fault{Kind: fault.Denied, What: "the server's certificate is not trusted: ",
			Do: "check the address; name the certificate of your own server with override.ca_cert=FILE"}
	case wrongHost.MatchString(text):
		return &fault.Fault{Kind: fault.Denied, What: "the server is not the one that is known: ",
			Do: "check the address, and the server's line in the file of known_hosts_file"}
	case status == http.StatusTooManyRequests || slowDown.MatchString(text) || pause > 0:
		return &fault.Fault{Kind: fault.Busy, What: "the remote asks to come back later: ", Do: "wait a while", Pause: pause, Again: true}
	case full(err, status) || noRoom.MatchString(text):
		return &fault.Fault{Kind: fault.Full, What: "the remote has no room left: ", Do: "make room there, or add another remote"}
	case denied(err, status) || noEntry.MatchString(text):
		return &fault.Fault{Kind: fault.Denied, What: "the remote does not allow it: ", Do: "check the user, the password or token, and what they may do"}
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusLocked:
		return &fault.Fault{Kind: fault.Busy, What: "the remote has trouble: ", Do: "wait a while", Again: true}
	case unreachable(err):
		return &fault.Fault{Kind: fault.Offline, What: "the remote cannot be reached: ", Do: "check the network and the remote's address", Again: true}
	case status >= 400:
		return &fault.Fault{Kind: fault.Broken, What: "the remote refused: ", Do: "check the remote's settings"}
	case broken(err):
		return &fault.Fault{Kind: fault.Broken, What: "the connection broke: ", Do: "check the network", Again: true}
	case errors.Is(err, fs.ErrorListBucketRequired):
		return &fault.Fault{Kind: fault.Settings, What: "the path of the remote names no bucket: ", Do: "write BUCKET or BUCKET/FOLDER after the colon"}
	case at == atOpen:
		return &fault.Fault{Kind: fault.Settings, Do: "check the remote's settings"}
	}
	return &fault.Fault{Kind: fault.Broken, Do: "check the remote with 'locker remote check'", Again: !fserrors.IsNoRetryError(err)}
}

// statusOf is the HTTP status that an error stands for, or 0. Backends have types of
// their own for that; most call it StatusCode or Code.
func statusOf(err error) int {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if s, ok := e.(interface{ HTTPStatusCode() int }); ok {
			return s.HTTPStatusCode()
		}
		v := reflect.ValueOf(e)
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			continue
		}
		for _, name := range []string{"StatusCode", "HTTPStatus", "Status", "Code"} {
			if f := v.FieldByName(name); f.IsValid() && f.CanInt() && f.Int() >= 400 && f.Int() < 600 {
				return int(f.Int())
			}
		}
	}
	if m := httpText.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}

func full(err error, status int) bool {
	return status == http.StatusInsufficientStorage || fserrors.IsErrNoSpace(err) || errors.Is(err, syscall.ENOSPC)
}

func denied(err error, status int) bool {
	return slices.Contains([]int{http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusProxyAuthRequired}, status) ||
		errors.Is(err, fs.ErrorPermissionDenied) || errors.Is(err, iofs.ErrPermission)
}

func untrusted(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// unreachable says whether there was no connection at all.
func unreachable(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial" ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// broken says whether a connection broke.
func broken(err error) bool {
	var timeout interface{ Timeout() bool }
	var call *url.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout() || errors.As(err, &call) && fserrors.ShouldRetry(call.Err) ||
		fserrors.IsRetryError(err) || fserrors.ShouldRetry(err)
}

// maxText bounds the text of an error, in bytes.
const maxText = 600

// queries are the parts of addresses that can hold signatures and tokens.
var (
	queries   = regexp.MustCompile(`\?[^\s"'<>]+`)
	userinfos = regexp.MustCompile(`//[^/\s"'@]+@`)
)

// cleaner returns a function that takes secrets out of the text of an error, whatever
// form they have there.
func cleaner(secrets []string, options map[string]string) func(string) string {
	var all []string
	for _, secret := range append(secrets, options["override.client_pass"]) {
		if len(secret) >= 4 {
			all = append(all, secret, url.QueryEscape(secret), url.PathEscape(secret), strings.Trim(strconv.Quote(secret), `"`))
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // no secret leaves a part of a longer one
	return func(text string) string {
		for _, secret := range all {
			text = strings.ReplaceAll(text, secret, "…")
		}
		text = userinfos.ReplaceAllString(text, "//…@")
		text = queries.ReplaceAllString(text, "?…")
		if len(text) > maxText {
			text = text[:maxText] + "…"
		}
		return strings.Join(strings.Fields(text), " ")
	}
}
