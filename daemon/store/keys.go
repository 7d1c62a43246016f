package store

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The key schema. Numbers are big-endian. NAME is the 4-byte number of a string in
// the table of names; collections, devices and imports are known by theirs.
//
//	'b' SEQ8                    blobs stored here, in order → id
//	'B' ID                      a blob → size, SEQ (0: it came from elsewhere)
//	'R' BLOB32 COLLECTION ID    a record refers to a blob (see refs.go)
//	'U' ID                      when a blob was last asked for
//	'c' REV8                    change log → collection NAME, id; each record once,
//	                            at its latest change
//	'f' NAME                    an import → the REV of the first change with its values
//	'i' COLLECTION ID           a record → PLACE
//	'm' "meta"                  counters, clock, state hash, counts (see meta)
//	'm' "bulk"                  tables that have to be taken in (see bulk.go)
//	'm' "refs"                  the index of references is whole
//	'm' "gone" ID               a blob that a purge removed
//	'm' "job" NAME              an import whose mark changed: records still to be moved
//	'm' "hunt", "hollow", …     what a purge left to be done (see hunt.go, scrub.go)
//	'n' NAME                    table of names → string
//	'r' COLLECTION PLACE ID     a record → its revisions and fields (see record)
//	'u' SHA-256                 change lines of a newer kind, verbatim
//	'z' KEY                     notes of the replica
//
// PLACE is where a record is among those of its collection, so that 'r' is the
// index by time and a scan in order of time reads records where they lie:
//
//	0               dead: deleted, or nothing of it is visible
//	1               without a time: before all others
//	2 SEC5 NSEC4    at that time; seconds since the year 0
//
// The order by time over all collections is a merge of theirs. Everything that
// depends on a record ('i', 'c', counts, state hash) changes in one batch with it;
// [Store.Check] recomputes all of it.
const (
	spaceNewBlobs = 'b'
	spaceBlobs    = 'B'
	spaceRefs     = 'R'
	spaceUsed     = 'U'
	spaceChanges  = 'c'
	spaceFirst    = 'f'
	spaceIDs      = 'i'
	spaceMeta     = 'm'
	spaceNames    = 'n'
	spaceRecords  = 'r'
	spaceUnknown  = 'u'
	spaceNotes    = 'z'
)

const (
	placeDead    = 0
	placeNoTime  = 1
	placeTime    = 2
	timeSize     = 5 + 4 // of a time in a key
	yearZero     = -62167219200
	endOfSeconds = 1 << 40 // above any SEC
)

// instantKey appends the part of a time by which keys are ordered.
func instantKey(b []byte, sec int64, nsec uint32) []byte {
	s := uint64(sec - yearZero)
	b = append(b, byte(s>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(s))
	return binary.BigEndian.AppendUint32(b, nsec)
}

// timePlace is the place of a time that may lie outside the years that keys can
// have, as the bound of a query may.
func timePlace(t time.Time) []byte {
	sec := min(max(t.Unix(), yearZero), yearZero+endOfSeconds-1)
	return instantKey([]byte{placeTime}, sec, uint32(t.Nanosecond()))
}

func nameKey(space byte, name uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{space}, name)
}

func idKey(b []byte, collection uint32, id string) []byte {
	b = append(b, spaceIDs)
	b = binary.BigEndian.AppendUint32(b, collection)
	return append(b, id...)
}

func recordKey(b []byte, collection uint32, place []byte, id string) []byte {
	b = append(b, spaceRecords)
	b = binary.BigEndian.AppendUint32(b, collection)
	b = append(b, place...)
	return append(b, id...)
}

func changeKey(rev uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{spaceChanges}, rev)
}

// splitRecordKey takes the key of a record apart. The parts lie within the key.
func splitRecordKey(key []byte) (collection uint32, place, id []byte, err error) {
	if len(key) < 6 || key[0] != spaceRecords {
		return 0, nil, nil, fmt.Errorf("damaged key of a record (%d bytes)", len(key))
	}
	n := 6
	if key[5] == placeTime {
		n += timeSize
	}
	if len(key) < n {
		return 0, nil, nil, fmt.Errorf("damaged key of a record (%d bytes)", len(key))
	}
	return binary.BigEndian.Uint32(key[1:]), key[5:n], key[n:], nil
}

// after is the first key that does not begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
