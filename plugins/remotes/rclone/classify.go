package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"iter"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"
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
	atSignIn when = "signing in"
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
	if strings.HasSuffix(f.What, ".") {
		f.What = strings.TrimSuffix(f.What, ".")
		return f
	}
	if f.Kind == fault.Broken && at == atPut && o.noRoom(ctx) {
		f = &fault.Fault{Kind: fault.Full, What: "the remote has no room left: ", Do: "make room there, or add another remote"}
	}
	f.What = string(at) + ": " + f.What + o.clean(err.Error())
	return f
}

// noRoom asks the remote how much room it has. Some servers, as that of OpenSSH, call a
// full disk a failure and say no more.
func (o *opened) noRoom(ctx context.Context) bool {
	const little = 1 << 20 // bytes: one more object could well be larger
	if o.fs == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(o.with(ctx), 10*time.Second)
	defer cancel()
	usage := o.usage(ctx)
	return usage != nil && usage.Free != nil && *usage.Free < little
}

// Errors that are known by their text, or by a code of the cloud's own in it.
var (
	slowDown = regexp.MustCompile(`(?i)rate.?limit|too.?many|slow.?down|queries per|per second|throttl|try again later|(activity|daily).?limit.?(reached|exceeded)|request.?limit.?exceeded|server.?busy`)
	noRoom   = regexp.MustCompile(`(?i)quota|insufficient.?(space|storage)|no.?space|storage.?(cap|limit|full)|disk (is )?full|out of space|over.?limit|exceeded storage|storage_cap_exceeded`)
	noEntry  = regexp.MustCompile(`(?i)unable to authenticate|access.?denied|permission.?denied|unauth(ori[sz]ed|enticated)|forbidden|login incorrect|logon failure|log ?in (failed|required)|` +
		`invalid.?(credentials|grant|client|access.?key|auth\S*|'?access_token'?|token)|(token (is )?|_)expired|expired_access|empty token|no refresh token|signaturedoesnotmatch|authenticationfailed`)
	signIn    = regexp.MustCompile(`(?i)invalid_grant|empty token found|no refresh token|expired_access_token|invalid_access_token|InvalidAuthenticationToken|rclone config reconnect`)
	wrongHost = regexp.MustCompile(`(?i)knownhosts: key (mismatch|is unknown)|host key`)
	offered   = regexp.MustCompile(`offered (\S+) key with fingerprint (SHA256:[\w+/]+)`)
	brokenOff = regexp.MustCompile(`(?i)ssh: (unexpected packet|disconnect|handshake failed: (EOF|read|write))|unexpected(ly)? (closed|EOF)|connection (was )?(lost|closed|reset|aborted)|broken pipe|i/o timeout`)
	httpText  = regexp.MustCompile(`\b([45]\d\d)[: ]+[A-Z][a-z]+`)
)

// classify finds the kind of an error. What is a short introduction to its text, or,
// where that ends in a stop, all that there is to say.
func classify(err error, at when) *fault.Fault {
	if f := ftpFault(err); f != nil {
		return f
	}
	status := statusOf(err)
	text := err.Error() + " " + codeOf(err)
	pause := retryAfter(err)
	switch {
	case untrusted(err):
		return &fault.Fault{Kind: fault.Denied, What: "the server's certificate is not trusted: ",
			Do: "check the address; name the certificate of your own server with override.ca_cert=FILE"}
	case wrongHost.MatchString(text):
		return stranger(text)
	case status == http.StatusTooManyRequests || slowDown.MatchString(text) || pause > 0:
		return &fault.Fault{Kind: fault.Busy, What: "the remote asks to come back later: ", Do: "wait a while", Pause: pause, Again: true}
	case full(err, status) || noRoom.MatchString(text):
		return &fault.Fault{Kind: fault.Full, What: "the remote has no room left: ", Do: "make room there, or add another remote"}
	case at != atSignIn && signIn.MatchString(text):
		return &fault.Fault{Kind: fault.Denied, What: "the cloud wants its owner to sign in again: ", Do: "remove the remote and add it again; nothing there is lost"}
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
	case at == atSignIn:
		return &fault.Fault{Kind: fault.Denied, Do: "sign in again"}
	}
	return &fault.Fault{Kind: fault.Broken, Do: "check the remote with 'locker remote check'", Again: !fserrors.IsNoRetryError(err)}
}

// stranger is the fault of an SFTP server that is not the one that is known.
func stranger(text string) *fault.Fault {
	f := &fault.Fault{Kind: fault.Denied, What: "the server is not the one that is known: ",
		Do: "check the address, and the server's line in the file of known_hosts_file"}
	if key := offered.FindStringSubmatch(text); key != nil {
		f.What = fmt.Sprintf("the server is not the one that was met first: it shows another key, %s %s.", key[1], key[2])
		f.Do = "somebody may be in between: send nothing. If the server has a new key and its admin tells you this very one, remove the remote and add it again"
	}
	return f
}

// ftpFault is what a reply of an FTP server means; nil for other errors. Its codes are
// not those of HTTP.
func ftpFault(err error) *fault.Fault {
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		return nil
	}
	switch code := reply.Code; {
	case code == 452 || code == 552 || noRoom.MatchString(reply.Msg):
		return &fault.Fault{Kind: fault.Full, What: "the remote has no room left: ", Do: "make room there, or add another remote"}
	case code == 430 || code == 530 || code == 532 || code == 534 || noEntry.MatchString(reply.Msg):
		return &fault.Fault{Kind: fault.Denied, What: "the remote does not allow it: ", Do: "check the user, the password, and what they may do"}
	case code >= 400 && code < 500:
		return &fault.Fault{Kind: fault.Busy, What: "the remote has trouble: ", Do: "wait a while", Again: true}
	}
	return &fault.Fault{Kind: fault.Broken, What: "the remote refused: ", Do: "check the remote's settings"}
}

// statusOf is the HTTP status that an error stands for, or 0. Backends have types of
// their own for that; most call it StatusCode or Code.
func statusOf(err error) int {
	for e := range chain(err) {
		if s, ok := e.(interface{ HTTPStatusCode() int }); ok {
			return s.HTTPStatusCode()
		}
		v := fields(e)
		for _, name := range []string{"StatusCode", "HTTPStatus", "Status", "Code"} {
			if !v.IsValid() {
				break
			}
			if f := v.FieldByName(name); f.IsValid() && f.CanInt() && f.Int() >= 400 && f.Int() < 600 {
				return int(f.Int())
			}
		}
		if r := response(e); r != nil && r.StatusCode >= 400 {
			return r.StatusCode
		}
	}
	if m := httpText.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}

// codeOf is the name that a cloud has for an error, which not all put into its text.
func codeOf(err error) string {
	for e := range chain(err) {
		if c, ok := e.(interface{ ErrorCode() string }); ok {
			return c.ErrorCode()
		}
	}
	return ""
}

// retryAfter is how long the remote asks to be left alone; 0 if it does not.
func retryAfter(err error) time.Duration {
	if pause, ok := pacer.IsRetryAfter(err); ok {
		return pause
	}
	for e := range chain(err) {
		var header http.Header
		if r := response(e); r != nil {
			header = r.Header
		} else if v := fields(e); v.IsValid() {
			if f := v.FieldByName("Header"); f.IsValid() && f.CanInterface() {
				header, _ = f.Interface().(http.Header)
			}
		}
		if pause := afterHeader(header.Get("Retry-After"), time.Now()); pause > 0 {
			return pause
		}
	}
	return 0
}

// afterHeader reads seconds or a date.
func afterHeader(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 && seconds < 1<<20 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now).Round(time.Second) + time.Second
	}
	return 0
}

// chain yields an error and those that it wraps.
func chain(err error) iter.Seq[error] {
	return func(yield func(error) bool) { walkErrors(err, yield) }
}

func walkErrors(err error, yield func(error) bool) bool {
	if err == nil {
		return true
	}
	if !yield(err) {
		return false
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return walkErrors(e.Unwrap(), yield)
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			if !walkErrors(part, yield) {
				return false
			}
		}
	}
	return true
}

// fields is the struct that an error is, or not valid.
func fields(err error) reflect.Value {
	v := reflect.ValueOf(err)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v
}

// response is the HTTP response that an error carries, or nil. The libraries of clouds
// call it Response or RawResponse; one has it inside a struct.
func response(err error) *http.Response {
	v := fields(err)
	for _, name := range []string{"Response", "RawResponse"} {
		if !v.IsValid() {
			return nil
		}
		f := v.FieldByName(name)
		if !f.IsValid() || f.Kind() != reflect.Pointer || f.IsNil() || !f.CanInterface() {
			continue
		}
		if r, ok := f.Interface().(*http.Response); ok {
			return r
		}
		if f.Elem().Kind() != reflect.Struct {
			continue
		}
		if inner := f.Elem().FieldByName("Response"); inner.IsValid() && inner.CanInterface() {
			if r, ok := inner.Interface().(*http.Response); ok && r != nil {
				return r
			}
		}
	}
	return nil
}

func full(err error, status int) bool {
	var sftpErr *sftp.StatusError
	const noSpace, quota = 14, 15 // of later versions of the protocol
	return status == http.StatusInsufficientStorage || fserrors.IsErrNoSpace(err) || errors.Is(err, syscall.ENOSPC) ||
		errors.As(err, &sftpErr) && (sftpErr.Code == noSpace || sftpErr.Code == quota)
}

func denied(err error, status int) bool {
	return slices.Contains([]int{http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusProxyAuthRequired}, status) ||
		errors.Is(err, fs.ErrorPermissionDenied) || errors.Is(err, iofs.ErrPermission) || errors.Is(err, sftp.ErrSSHFxPermissionDenied)
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
		fserrors.IsRetryError(err) || fserrors.ShouldRetry(err) || brokenOff.MatchString(err.Error())
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
