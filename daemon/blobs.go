package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// BlobParams are the parameters of the call blob.get.
type BlobParams struct {
	ID string `json:"id"`
	// Range asks for a part, as HTTP writes it (RFC 9110, 14.1.2): FIRST-LAST, FIRST- or
	// -COUNT, in bytes from 0 on; empty is all.
	Range string `json:"range,omitempty"`
}

// blobPiece is how much of a blob one row of blob.get holds: its chunks are fetched
// whole, so it is one of them.
const blobPiece = 1 << 20

// blob is the call blob.get: the bytes of a blob, or a part of it, in pieces, each a
// base64 string. What is not here is fetched, and no more than was asked for.
func (l *Locker) blob(ctx context.Context, p BlobParams, a *answer) (any, error) {
	_, size, err := l.readBlob(ctx, p.ID, 0, 0)
	if err != nil {
		return nil, err
	}
	from, to, err := blobRange(p.Range, size)
	if err != nil {
		return nil, err
	}
	if from == 0 && to == size { // all of it: then it is kept, if there is room
		if err := l.replica.Blob(ctx, p.ID); err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	for from < to {
		n := min(blobPiece-from%blobPiece, to-from)
		data, _, err := l.readBlob(ctx, p.ID, from, n)
		if err != nil {
			return nil, err
		}
		if int64(len(data)) != n {
			return nil, fmt.Errorf("the blob %s has fewer bytes than it should have", p.ID)
		}
		if err := a.row(data); err != nil {
			return nil, err
		}
		from += n
	}
	return nil, nil
}

func (l *Locker) readBlob(ctx context.Context, id string, off, n int64) ([]byte, int64, error) {
	data, size, err := l.replica.ReadBlob(ctx, id, off, n)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, failed("fields of records name blobs: see 'locker query COLLECTION'", "no device of this locker has told of a blob %s", clip(id))
	case err != nil:
		return nil, 0, fmt.Errorf("the blob %s is not on this device, nor could it be fetched: %w", clip(id), err)
	}
	return data, size, nil
}

// blobRange reads a range of a blob of so many bytes.
func blobRange(text string, size int64) (from, to int64, err error) {
	if text == "" {
		return 0, size, nil
	}
	wrong := usage("write FIRST-LAST, FIRST- or -COUNT, in bytes from 0 on", "%q is no part of a blob of %d bytes", clip(text), size)
	first, last, ok := strings.Cut(text, "-")
	if !ok || first == "" && last == "" {
		return 0, 0, wrong
	}
	number := func(s string, otherwise int64) int64 {
		if s == "" {
			return otherwise
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	if first == "" {
		count := number(last, -1)
		if count <= 0 {
			return 0, 0, wrong
		}
		return max(0, size-count), size, nil
	}
	from, to = number(first, -1), number(last, size-1)
	if from < 0 || to < from || from >= size {
		return 0, 0, wrong
	}
	return from, min(to+1, size), nil
}
