package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// Bounds of what is made here, and, wider, of what is accepted.
const (
	pieceSize    = 4 << 20  // lines in one zstd frame of an entry
	entryLines   = 15 << 20 // lines in one entry, about
	entryFrames  = 14 << 20 // compressed bytes at which an entry is closed
	maxObject    = 17 << 20 // of an object read from a remote
	maxLines     = 64 << 20 // decompressed, of an entry read from a remote
	maxPayload   = 1 << 20  // decompressed, of a door, member or epoch object
	maxRatio     = 1000     // decompressed bytes for each compressed one,
	ratioFloor   = 64 << 10 // beyond these
	storedBlock  = 128 << 10
	zstdWindow   = 8 << 20 // what every zstd opens without being asked
	frameMagic   = 0xFD2FB528
	singleFrame8 = 0xE0 // frame descriptor: single segment, content size of 8 bytes
)

var errBomb = errors.New("it decompresses to more than an honest writer makes")

// A codec makes and opens zstd frames. Its methods may be called concurrently.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	cores := runtime.GOMAXPROCS(0)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(cores), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(cores), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecodeAllCapLimit(true))
	return &codec{enc, dec}, err
}

// compress appends data to dst as one zstd frame, stored where that is no longer
// or where a reader would take the compressed one for a bomb.
func (c *codec) compress(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	start := len(dst)
	dst = c.enc.EncodeAll(data, dst)
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

// contentSize is how many bytes zstd frames say that they hold. Frames that do not
// say it are not made here and not accepted.
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
		if !h.HasFCS || h.FrameContentSize > maxLines {
			return 0, errBomb
		}
		size += h.FrameContentSize
		if frames, err = afterBlocks(frames[h.HeaderSize:], h.HasCheckSum); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// afterBlocks returns what follows the blocks and the checksum of a frame.
func afterBlocks(b []byte, checksum bool) ([]byte, error) {
	for last := false; !last; {
		if len(b) < 3 {
			return nil, io.ErrUnexpectedEOF
		}
		head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = head&1 == 1
		n := int(head >> 3)
		if head>>1&3 == 1 { // one byte, repeated
			n = 1
		}
		if len(b) < 3+n {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[3+n:]
	}
	if !checksum {
		return b, nil
	}
	if len(b) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	return b[4:], nil
}
