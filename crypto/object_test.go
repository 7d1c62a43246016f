package crypto

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
)

func BenchmarkSeal(b *testing.B) { benchmarkObjects(b, true) }

func BenchmarkOpen(b *testing.B) { benchmarkObjects(b, false) }

func benchmarkObjects(b *testing.B, seal bool) {
	k := founded(b, testSeed(1))
	r := Ref{"entry", k.Device(), 1, ""}
	for _, c := range []struct {
		name string
		size int
	}{{"4KiB", 4096}, {"1MiB", 1 << 20}, {"16MiB", 16 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			frames := make([]byte, c.size-2048)
			rand.Read(frames)
			object, _, err := k.Seal(r, nil, frames)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(object)))
			b.ReportAllocs()
			for b.Loop() {
				if seal {
					_, _, err = k.Seal(r, nil, frames)
				} else {
					_, _, _, err = k.Open(r, object)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ = bytes.Equal
var _ = fmt.Sprint
