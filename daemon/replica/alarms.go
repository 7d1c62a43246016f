package replica

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// The life of a notice. What is wrong is noted when it is met (wait), under a key that
// says what it is about, and is pending; after a day during which this device was
// looking it is an alarm, some at once, some never. It ends in one of three ways: who
// looks again finds it well and clears it; it is about nothing any more, which the end
// of each pass finds out (over, below); or the device that has it becomes another one.
// Nothing is dismissed by hand, and nothing stays once it is healed. What comes back is
// noted anew, with a new beginning.
//
//	key                  kind          raised by                        healed by                            cleared by, or ends when
//	entry/D/N            bad, closed,  reading log D                    its writer, or any device or remote  reading N, or a base over it; D's pin lies
//	                     newer                                          that has it; a key; a newer program  before N
//	missing/D/N          missing       reading past N                   the same                             the same
//	base/D/N, run/D/N    all of these  reading a base of D              the same; a later base               reading it, a later base, no gap
//	mark/D/N             bad           looking for D's newest mark      D, in a full pass                    looking again; a later mark
//	door, member,        bad, closed,  reading membership               whoever keeps it: all do             looking again, which full passes do; a
//	epoch/D/N            newer                                                                               later epoch of D
//	members/TIP          members       an entry that names TIP          whoever keeps TIP                    knowing it
//	lost/R/…             missing       the daily look at remote R       whoever has it, from where it is     the daily look; R is used no more
//	verify/R/NAME        missing, bad  verify                           the same                             verify, the daily look; R is used no more
//	own/N                bad           the look at one's own next name  putting entry N                      putting it
//	unseen/D             unseen        an entry of D that does not      the remote, or D by looking at all   an entry of D that does; D is removed
//	                                   name what was put a day before
//	fork/D/N             fork          two valid entries N              nothing: D runs twice                D is removed, as a copy that became a device
//	                                                                                                         of its own removes it
//	ahead/D              ahead         an entry of D with more of this  nothing: this device runs twice      this device becomes another; D is removed
//	                                   log than was written here
//	cloned               ahead         the look at one's own next name  becoming another device              that
//	removed              removed       the membership                   being admitted again                 that
//	eviction(/R), door   members       a door that another one took     the owner; copies in other objects   the removal stands; the daily look at R; a
//	                                                                                                         device admitted this one
//	clock/D              clock         an entry from the future         D's clock                            the next entry of D; D is removed
//	silent               silent        not noted: told by the time      news of D                            that; D is removed
//	blob/ID              blob          fetching a blob                  a device that has it                 fetching it; it is here, or forgotten
//	packing/ID           blob          packing a damaged blob           importing it again                   it is packed, or here no more
//	full/R               full          a remote that is full            room                                 sending; R is used no more
//	compact, purge       their own     work on this device's log        what the error says                  the next time it works
//	skew/…               newer         a thing that is not known here   a newer program                      knowing it

// endNotices clears what is about nothing any more. It reads no remote.
func (p *pass) endNotices(ctx context.Context) error {
	p.waiting.Lock()
	waits := make(map[string]waitNote, len(p.waits))
	for key, w := range p.waits {
		waits[key] = *w
	}
	p.waiting.Unlock()
	if len(waits) == 0 {
		return nil
	}
	var ended []string
	for key, w := range waits {
		over, err := p.over(ctx, key, w)
		if err != nil {
			return err
		}
		if over {
			ended = append(ended, key)
		}
	}
	slices.Sort(ended)
	return p.clear(ctx, ended...)
}

// over says whether a notice is about nothing any more.
func (p *pass) over(ctx context.Context, key string, w waitNote) (bool, error) {
	kind, rest, _ := strings.Cut(key, "/")
	device, number, _ := strings.Cut(rest, "/")
	n, _ := strconv.ParseUint(number, 10, 64)
	self := p.sealer.Device()
	switch kind {
	case "entry", "missing":
		return p.readOrOut(device, n), nil
	case "base", "run", "mark":
		if kind == "mark" && p.peer(device).Mark >= n {
			return true, nil
		}
		return !slices.Contains(p.everyone(), device), nil
	case "epoch":
		return p.peer(device).Epoch > n, nil
	case "lost", "verify", "full":
		return !slices.ContainsFunc(p.remoteNames(), func(name string) bool {
			return rest == name || strings.HasPrefix(rest, name+"/")
		}), nil
	case "fork", "ahead", "unseen", "clock":
		return device != self && !slices.Contains(p.sealer.Members(), device), nil
	case "eviction":
		if w.Device == "" { // of one remote: the daily look puts copies of it into other objects
			return p.healed[rest], nil
		}
		_, out := p.sealer.PinOf(w.Device)
		return out, nil
	case "door":
		if rest == "" {
			by, _ := p.sealer.AdmittedBy(self)
			return by != "" && by != phrase, nil
		}
	case "blob", "packing":
		return p.blobOver(ctx, kind, rest)
	}
	return false, nil
}

// readOrOut says whether an entry was read, or is of a log that does not count so far.
func (p *pass) readOrOut(device string, number uint64) bool {
	if !slices.Contains(p.everyone(), device) {
		return true
	}
	peer := p.peer(device)
	if _, beyond := peer.Beyond[number]; beyond || number <= peer.Read.N {
		return true
	}
	pin, out := p.sealer.PinOf(device)
	return out && number > pin.Number
}

// blobOver says whether a blob that could not be fetched or packed is here, or is not
// wanted, or, of one to be packed, whether it is packed.
func (p *pass) blobOver(ctx context.Context, kind, id string) (bool, error) {
	copies, err := p.copies(ctx, id)
	if err != nil || kind == "blob" && len(copies) == 0 || kind == "packing" && len(copies) > 0 {
		return err == nil, err
	}
	body, _, err := p.state.OpenBlob(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return kind == "packing", nil
	case err != nil:
		return false, nil // it is here, and damaged
	}
	return kind == "blob", body.Close()
}
