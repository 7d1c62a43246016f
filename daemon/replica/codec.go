package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// Bounds of what is made here, and, wider, of what is accepted.
const (
	pieceSize     = 4 << 20   // lines in one zstd frame of an entry
	entryLines    = 17 << 20  // lines in one entry, about
	entryFrames   = 14 << 20  // compressed bytes at which an entry is closed
	maxObject     = 17 << 20  // of an object read from a remote
	maxLines      = 64 << 20  // decompressed, of an entry read from a remote
	maxPayload    = 1 << 20   // decompressed, of a door, member or epoch object
	maxRatio      = 1000      // decompressed bytes for each compressed one,
	ratioFloor    = 256 << 10 // beyond these
	storedBlock   = 128 << 10
	zstdWindow    = 8 << 20 // what every zstd opens without being asked
	encoderWindow = 512 << 10
	frameMagic    = 0xFD2FB528
	singleFrame8  = 0xE0 // frame descriptor: single segment, content size of 8 bytes
)

var errBomb = errors.New("it decompresses to more than an honest writer makes")

// A codec makes and opens zstd frames. Its methods may be called concurrently.
//
// The level fastest of this encoder makes 2 % more bytes than zstd -1, the level
// better makes 5 % fewer and takes a third longer. Small pieces are compressed
// better; of the pieces of a big import two of five are, which comes to the
// bytes of zstd -1.
type codec struct {
	fast, better atomic.Pointer[zstd.Encoder]
	dec          *zstd.Decoder
}

// smallPiece is the size up to which lines are always compressed better.
const smallPiece = 1 << 20

func newCodec() (*codec, error) {
	c := &codec{}
	if err := c.rest(); err != nil {
		return nil, err
	}
	var err error
	c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecodeAllCapLimit(true))
	return c, err
}

// rest gives up the tables of the encoders, some ten megabytes; they are made again
// when something is compressed.
func (c *codec) rest() error {
	encoder := func(level zstd.EncoderLevel) (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithWindowSize(encoderWindow), zstd.WithLowerEncoderMem(true))
	}
	fast, err := encoder(zstd.SpeedFastest)
	if err != nil {
		return err
	}
	better, err := encoder(zstd.SpeedBetterCompression)
	if err != nil {
		return err
	}
	c.fast.Store(fast)
	c.better.Store(better)
	return nil
}

// compress appends data to dst as one zstd frame, stored where that is no longer
// or where a reader would take the compressed one for a bomb.
func (c *codec) compress(dst, data []byte) []byte { return c.with(c.fast.Load(), dst, data) }

// compressPiece is compress for the i-th piece of lines.
func (c *codec) compressPiece(i int, dst, data []byte) []byte {
	if 2*i%5 < 2 || len(data) <= smallPiece {
		return c.with(c.better.Load(), dst, data)
	}
	return c.with(c.fast.Load(), dst, data)
}

func (c *codec) with(enc *zstd.Encoder, dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	start := len(dst)
	dst = enc.EncodeAll(data, dst)
	if n := len(dst) - start; n < len(data) && len(data) <= n*maxRatio {
		return dst
	}
	return storedFrame(dst[:start], data)
}

// storedFrame appends data to dst as a zstd frame of raw blocks.
func storedFrame(dst, data []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	dst = append(dst, singleFrame8)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(data)))
	for {
		block := data[:min(len(data), storedBlock)]
		data = data[len(block):]
		head := uint32(len(block)) << 3
		if len(data) == 0 {
			head |= 1
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, block...)
		if len(data) == 0 {
			return dst
		}
	}
}

// bound is how many bytes compressed ones may stand for.
func bound(compressed, limit int) int {
	if compressed > limit/maxRatio {
		return limit
	}
	return min(limit, ratioFloor+compressed*maxRatio)
}

// decompress opens zstd frames into buf, which it may replace, and refuses what is
// larger than limit or than an honest ratio allows.
func (c *codec) decompress(frames, buf []byte, limit int) ([]byte, error) {
	size, err := contentSize(frames)
	if err != nil {
		return nil, fmt.Errorf("its zstd frames are damaged: %w", err)
	}
	if size > uint64(bound(len(frames), limit)) {
		return nil, errBomb
	}
	if uint64(cap(buf)) < size {
		buf = make([]byte, 0, size)
	}
	out, err := c.dec.DecodeAll(frames, buf[:0:size])
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return nil, errBomb
	}
	if err != nil {
		return nil, fmt.Errorf("its zstd frames are damaged: %w", err)
	}
	return out, nil
}

// eachFrame calls f with what each zstd frame holds; the bytes are only lent.
func (c *codec) eachFrame(frames, buf []byte, f func(data []byte) error) error {
	for len(frames) > 0 {
		var h zstd.Header
		if err := h.Decode(frames); err != nil {
			return err
		}
		rest, _, err := afterBlocks(frames[h.HeaderSize:], h.HasCheckSum)
		if err != nil {
			return err
		}
		if buf, err = c.decompress(frames[:len(frames)-len(rest)], buf, maxLines); err != nil {
			return err
		}
		if err := f(buf); err != nil {
			return err
		}
		frames = rest
	}
	return nil
}

// contentSize is how many bytes zstd frames say that they hold; a small one need not
// say it, and is taken for as much as its blocks can hold.
func contentSize(frames []byte) (size uint64, err error) {
	for len(frames) > 0 {
		var h zstd.Header
		if err := h.Decode(frames); err != nil {
			return 0, err
		}
		if h.Skippable {
			skip := 8 + uint64(h.SkippableSize)
			if skip > uint64(len(frames)) {
				return 0, io.ErrUnexpectedEOF
			}
			frames = frames[skip:]
			continue
		}
		if h.FrameContentSize > maxLines {
			return 0, errBomb
		}
		rest, most, err := afterBlocks(frames[h.HeaderSize:], h.HasCheckSum)
		if err != nil {
			return 0, err
		}
		frames = rest
		if h.HasFCS {
			most = h.FrameContentSize
		}
		size += most
	}
	return size, nil
}

// afterBlocks returns what follows the blocks and the checksum of a frame, and the
// most that they can hold.
func afterBlocks(b []byte, checksum bool) (rest []byte, most uint64, err error) {
	const compressed = 2
	for last := false; !last; {
		if len(b) < 3 {
			return nil, 0, io.ErrUnexpectedEOF
		}
		head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = head&1 == 1
		n, kind := int(head>>3), head>>1&3
		if kind == compressed {
			most += storedBlock
		} else {
			most += uint64(n)
		}
		if kind == 1 { // one byte, repeated
			n = 1
		}
		if len(b) < 3+n {
			return nil, 0, io.ErrUnexpectedEOF
		}
		b = b[3+n:]
	}
	if !checksum {
		return b, most, nil
	}
	if len(b) < 4 {
		return nil, 0, io.ErrUnexpectedEOF
	}
	return b[4:], most, nil
}
