package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/pkg/sftp"
	b2 "github.com/rclone/rclone/backend/b2/api"
	box "github.com/rclone/rclone/backend/box/api"
	onedrive "github.com/rclone/rclone/backend/onedrive/api"
	pcloud "github.com/rclone/rclone/backend/pcloud/api"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/pacer"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"

	"github.com/locker-project/locker/daemon/remote/fault"
)

// A statusError is like those of many backends.
type statusError struct{ StatusCode int }

func (s *statusError) Error() string { return "something" }

// later is a response that asks to come back after seven seconds.
var later = http.Header{"Retry-After": {"7"}}

// amazon is an error of S3's library.
func amazon(status int, code string, header http.Header) error {
	return fmt.Errorf("operation error S3: PutObject, %w", &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status, Header: header}},
		Err:      &smithy.GenericAPIError{Code: code, Message: "no"},
	})
}

func microsoft(code string) error {
	e := &onedrive.Error{}
	e.ErrorInfo.Code, e.ErrorInfo.Message = code, "no"
	return e
}

// TestClassify: errors as each kind of cloud has them, of the types of its library.
func TestClassify(t *testing.T) {
	for _, test := range []struct {
		err   error
		kind  fault.Kind
		again bool
		pause time.Duration
	}{
		{err: &statusError{401}, kind: fault.Denied},
		{err: fmt.Errorf("put: %w", &statusError{403}), kind: fault.Denied},
		{err: &statusError{404}, kind: fault.Broken},
		{err: &statusError{429}, kind: fault.Busy, again: true},
		{err: &statusError{503}, kind: fault.Busy, again: true},
		{err: &statusError{507}, kind: fault.Full},
		{err: errors.New("502 Bad Gateway"), kind: fault.Busy, again: true},
		{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, kind: fault.Offline, again: true},
		{err: &net.DNSError{Err: "no such host", Name: "x"}, kind: fault.Offline, again: true},
		{err: fmt.Errorf("read: %w", syscall.ECONNRESET), kind: fault.Broken, again: true},
		{err: io.ErrUnexpectedEOF, kind: fault.Broken, again: true},
		{err: syscall.ENOSPC, kind: fault.Full},
		{err: fs.ErrorPermissionDenied, kind: fault.Denied},
		{err: fs.ErrorListBucketRequired, kind: fault.Settings},
		{err: pacer.RetryAfterError(errors.New("wait"), 7*time.Second), kind: fault.Busy, again: true, pause: 7 * time.Second},
		{err: errors.New("never seen before"), kind: fault.Broken, again: true},

		// Google Drive and Cloud Storage.
		{err: &googleapi.Error{Code: 403, Message: "User rate limit exceeded", Errors: []googleapi.ErrorItem{{Reason: "userRateLimitExceeded"}}}, kind: fault.Busy, again: true},
		{err: &googleapi.Error{Code: 403, Message: "The user's Drive storage quota has been exceeded", Errors: []googleapi.ErrorItem{{Reason: "storageQuotaExceeded"}}}, kind: fault.Full},
		{err: &googleapi.Error{Code: 403, Message: "The user does not have sufficient permissions", Errors: []googleapi.ErrorItem{{Reason: "insufficientFilePermissions"}}}, kind: fault.Denied},
		{err: &googleapi.Error{Code: 503, Header: later}, kind: fault.Busy, again: true, pause: 7 * time.Second},
		// S3.
		{err: amazon(503, "SlowDown", later), kind: fault.Busy, again: true, pause: 7 * time.Second},
		{err: amazon(400, "RequestLimitExceeded", nil), kind: fault.Busy, again: true},
		{err: amazon(403, "QuotaExceeded", nil), kind: fault.Full},
		{err: amazon(507, "XMinioStorageFull", nil), kind: fault.Full},
		{err: amazon(403, "SignatureDoesNotMatch", nil), kind: fault.Denied},
		{err: amazon(500, "InternalError", nil), kind: fault.Busy, again: true},
		// Azure.
		{err: &azcore.ResponseError{StatusCode: 503, ErrorCode: "ServerBusy", RawResponse: answer(503, later)}, kind: fault.Busy, again: true, pause: 7 * time.Second},
		{err: &azcore.ResponseError{StatusCode: 403, ErrorCode: "AuthenticationFailed", RawResponse: answer(403, nil)}, kind: fault.Denied},
		// OneDrive, Box, Backblaze, pCloud, Dropbox.
		{err: microsoft("quotaLimitReached"), kind: fault.Full},
		{err: microsoft("activityLimitReached"), kind: fault.Busy, again: true},
		{err: microsoft("accessDenied"), kind: fault.Denied},
		{err: microsoft("InvalidAuthenticationToken"), kind: fault.Denied},
		{err: &box.Error{Status: 403, Code: "storage_limit_exceeded"}, kind: fault.Full},
		{err: &box.Error{Status: 429, Code: "rate_limit_exceeded"}, kind: fault.Busy, again: true},
		{err: &b2.Error{Status: 403, Code: "storage_cap_exceeded", Message: "no"}, kind: fault.Full},
		{err: &b2.Error{Status: 503, Code: "service_unavailable", Message: "no tomes available"}, kind: fault.Busy, again: true},
		{err: &pcloud.Error{Result: 2008, ErrorString: "User is over quota."}, kind: fault.Full},
		{err: &pcloud.Error{Result: 4000, ErrorString: "Too many login tries from this IP address."}, kind: fault.Busy, again: true},
		{err: &pcloud.Error{Result: 2094, ErrorString: "Invalid 'access_token' provided."}, kind: fault.Denied},
		{err: errors.New("path/insufficient_space/.."), kind: fault.Full},
		{err: errors.New("too_many_write_operations/.."), kind: fault.Busy, again: true},
		{err: errors.New("expired_access_token/..."), kind: fault.Denied},
		{err: errors.New(`couldn't fetch token: invalid_grant: maybe token expired? - try refreshing with "rclone config reconnect locker:"`), kind: fault.Denied},
		{err: fmt.Errorf("couldn't fetch token: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), kind: fault.Offline, again: true},
		// SFTP.
		{err: errors.New("ssh: handshake failed: ssh: unable to authenticate, attempted methods [none]"), kind: fault.Denied},
		{err: errors.New("NewFs: ssh: handshake failed: knownhosts: key mismatch"), kind: fault.Denied},
		{err: errors.New("NewFs: couldn't initialise SFTP: ssh: unexpected packet in response to channel open: <nil>"), kind: fault.Broken, again: true},
		{err: errors.New("NewFs: couldn't connect SSH: ssh: handshake failed: EOF"), kind: fault.Broken, again: true},
		{err: &sftp.StatusError{Code: 14}, kind: fault.Full},
		{err: &sftp.StatusError{Code: 3}, kind: fault.Denied},
		// FTP, whose numbers are not those of HTTP.
		{err: &textproto.Error{Code: 530, Msg: "Login incorrect."}, kind: fault.Denied},
		{err: &textproto.Error{Code: 421, Msg: "Too many connections."}, kind: fault.Busy, again: true},
		{err: &textproto.Error{Code: 452, Msg: "Transfer aborted."}, kind: fault.Full},
		{err: &textproto.Error{Code: 552, Msg: "Exceeded storage allocation."}, kind: fault.Full},
		{err: &textproto.Error{Code: 426, Msg: "Connection closed"}, kind: fault.Busy, again: true},
		{err: &textproto.Error{Code: 550, Msg: "Permission denied."}, kind: fault.Denied},
		{err: &textproto.Error{Code: 550, Msg: "x: is a directory"}, kind: fault.Broken},
	} {
		f := classify(test.err, atPut)
		if f.Kind != test.kind || f.Again != test.again || f.Pause != test.pause || f.Do == "" {
			t.Errorf("%T %v: %+v, want %s, again %v, pause %s", test.err, test.err, f, test.kind, test.again, test.pause)
		}
		if f.Full() != (test.kind == fault.Full) || f.Transient() != test.again || f.RetryAfter() != test.pause {
			t.Errorf("%v: full %v, transient %v, retry after %s", test.err, f.Full(), f.Transient(), f.RetryAfter())
		}
	}
	if f := classify(errors.New("never seen before"), atOpen); f.Kind != fault.Settings {
		t.Errorf("at opening: %+v", f)
	}
	if f := classify(&oauth2.RetrieveError{Response: answer(400, nil), ErrorCode: "invalid_grant"}, atSignIn); f.Kind != fault.Denied {
		t.Errorf("at signing in: %+v", f)
	}
}

func answer(status int, header http.Header) *http.Response {
	r, _ := http.NewRequest("PUT", "http://cloud.example/x", nil)
	return &http.Response{StatusCode: status, Header: header, Request: r, Body: io.NopCloser(strings.NewReader(""))}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): 61 * time.Second, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := afterHeader(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
