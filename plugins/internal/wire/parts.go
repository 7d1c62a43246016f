package wire

import "io"

// PartReader returns a reader of a body that comes in parts. next returns the
// next part, or io.EOF after the last.
func PartReader(next func() ([]byte, error)) io.Reader { return &partReader{next: next} }

type partReader struct {
	next func() ([]byte, error)
	rest []byte
	err  error
}

func (r *partReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		r.rest, r.err = r.next()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// SendParts reads body to its end and hands it to send in parts. send may keep
// what it is given.
func SendParts(body io.Reader, send func(part []byte) error) error {
	for {
		part := make([]byte, Part)
		n, err := io.ReadFull(body, part)
		if n > 0 {
			if err := send(part[:n]); err != nil {
				return err
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
