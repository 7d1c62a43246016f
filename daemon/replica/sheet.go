package replica

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is printed on the recovery sheet beside the phrase: how far each device's log
// went on that day. A device that has the phrase alone cannot tell an old state of the
// cloud from the present one; the sheet is a lower bound that the cloud cannot change.
//
//	2026-11-25 ab3xq2-1204-7c2fd1kq k7m2pq-88-0e11abq7 5fq2
//
// After the day a group for each device: the first 6 characters of its id, the number
// of its newest entry, the first 6 of that entry's id and two that check the group;
// and at the end 4 that check the whole, for this locker.

const (
	sheetPrefix = 6
	sheetPart   = 2
	sheetWhole  = 4
	sheetDay    = "2006-01-02"
	maxSheet    = 64 << 10
)

// Sheet returns what the recovery sheet says of the present state, to be printed, and
// typed in again at a restore. It holds no secret.
func (r *Replica) Sheet(ctx context.Context) (string, error) {
	self := r.getSelf()
	peers, err := r.loadPeers(ctx)
	if err != nil {
		return "", err
	}
	text := []string{r.clock().UTC().Format(sheetDay)}
	for _, device := range r.sealer.Members() {
		newest := self.Entry
		if device != self.Device {
			newest = seen{}
			if peer := peers[device]; peer != nil {
				newest = peer.newest()
			}
		}
		if newest.N > 0 {
			group := fmt.Sprintf("%s-%d-%s", device[:min(sheetPrefix, len(device))], newest.N, newest.ID[:sheetPrefix])
			text = append(text, group+sheetCheck(group, sheetPart))
		}
	}
	return strings.Join(append(text, r.sheetCheck(text)), " "), nil
}

// newest is the highest entry that was read, perhaps beyond a gap: a new device reads
// the newest first.
func (n *peerNote) newest() seen {
	newest := n.Read
	for number, id := range n.Beyond {
		if number > newest.N {
			newest = seen{number, id}
		}
	}
	return newest
}

// sheetCheck are characters that tell what was typed wrong.
func sheetCheck(text string, n int) string {
	sum := sha256.Sum256([]byte("locker/1 sheet\x00" + text))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))[:n]
}

func (r *Replica) sheetCheck(groups []string) string {
	return sheetCheck(r.sealer.Locker()+"\x00"+strings.Join(groups, " "), sheetWhole)
}

// A SheetLine is what a recovery sheet says of one device, and what is here.
type SheetLine struct {
	// Device is its id; of a device that is not known here only its beginning.
	Device, Name string
	Known        bool
	Sheet, Here  uint64 // the newest entry when the sheet was printed, and now here
	// Differs says that the entry of that number is another one here.
	Differs bool
}

// Older says that the remotes show less of the device than the sheet.
func (l SheetLine) Older() bool { return !l.Known || l.Here < l.Sheet }

// A SheetReport compares a recovery sheet with what the remotes showed.
type SheetReport struct {
	Printed time.Time // the day
	Lines   []SheetLine
}

// Behind says whether something of the sheet is missing here, or is another.
func (s SheetReport) Behind() bool {
	return slices.ContainsFunc(s.Lines, func(l SheetLine) bool { return l.Older() || l.Differs })
}

// CheckSheet compares what [Replica.Sheet] returned once with what this device has
// read, a restore for one. What the sheet names and is not here counts from then on as
// written: it is pending, then an alarm, and is read once it turns up. The error says
// which part was typed wrong, or that the sheet is another locker's.
func (r *Replica) CheckSheet(ctx context.Context, text string) (SheetReport, error) {
	report, groups, err := r.parseSheet(text)
	if err != nil {
		return report, err
	}
	r.pass.Lock()
	defer r.pass.Unlock()
	self, n := r.getSelf(), notes{}
	known := append(r.sealer.Members(), sortedDevices(r.sealer.Removed())...)
	for _, g := range groups {
		line := SheetLine{Device: g.device, Sheet: g.number}
		if i := slices.IndexFunc(known, func(d string) bool { return strings.HasPrefix(d, g.device) }); i >= 0 {
			line.Device, line.Known, line.Name = known[i], true, r.sealer.DeviceName(known[i])
			if line, err = r.compareSheet(ctx, line, g.id, self, n); err != nil {
				return report, err
			}
		}
		report.Lines = append(report.Lines, line)
	}
	if len(n) == 0 {
		return report, nil
	}
	return report, r.state.SetNotes(ctx, n)
}

// compareSheet compares one line of a sheet with the log that it is about.
func (r *Replica) compareSheet(ctx context.Context, line SheetLine, id string, self *selfNote, n notes) (SheetLine, error) {
	var entry logNote
	ok, err := r.note(ctx, logKey(line.Device, line.Sheet), &entry)
	if err != nil {
		return line, err
	}
	line.Differs = ok && !strings.HasPrefix(entry.ID, id)
	if line.Device == self.Device {
		line.Here = self.Entry.N
		return line, nil
	}
	peer := r.peers[line.Device]
	if peer == nil {
		peer = &peerNote{News: r.now()}
	}
	line.Here = peer.newest().N
	if known, ok := peer.idOf(line.Sheet); ok && line.Sheet > 0 {
		line.Differs = line.Differs || !strings.HasPrefix(known, id)
	}
	if line.Here < line.Sheet && peer.Named < line.Sheet {
		peer = peer.copy()
		peer.Named = line.Sheet
		r.peers[line.Device] = peer
		n.set(peerKey(line.Device), peer)
	}
	return line, nil
}

func sortedDevices(pins map[string]uint64) (list []string) {
	for device := range pins {
		list = append(list, device)
	}
	slices.Sort(list)
	return list
}

// A sheetGroup is one device on a sheet.
type sheetGroup struct {
	device string
	number uint64
	id     string
}

// parseSheet reads what was typed in. Case and line breaks do not matter.
func (r *Replica) parseSheet(text string) (report SheetReport, groups []sheetGroup, err error) {
	if len(text) > maxSheet {
		return report, nil, errors.New("recovery sheet: it is too long")
	}
	parts := strings.Fields(strings.ToLower(text))
	if len(parts) < 2 {
		return report, nil, errors.New("recovery sheet: it has a day, a group for each device, and four characters at the end")
	}
	if report.Printed, err = time.Parse(sheetDay, parts[0]); err != nil {
		return report, nil, fmt.Errorf("recovery sheet: %q is no day such as 2026-11-25", parts[0])
	}
	last := len(parts) - 1
	for i, part := range parts[1:last] {
		g, ok := parseGroup(part)
		if !ok {
			return report, nil, fmt.Errorf("recovery sheet: group %d, %q, has a mistake: compare it with the sheet", i+1, part)
		}
		groups = append(groups, g)
	}
	if parts[last] != r.sheetCheck(parts[:last]) {
		return report, nil, errors.New("recovery sheet: each group is right, but not the whole: a group or the day is missing or wrong, or it is the sheet of another locker")
	}
	return report, groups, nil
}

// parseGroup reads what a sheet says of one device.
func parseGroup(part string) (g sheetGroup, ok bool) {
	fields := strings.Split(part, "-")
	if len(fields) != 3 || len(fields[2]) != sheetPrefix+sheetPart {
		return g, false
	}
	group := part[:len(part)-sheetPart]
	number, err := strconv.ParseUint(fields[1], 10, 53)
	g = sheetGroup{fields[0], number, fields[2][:sheetPrefix]}
	ok = err == nil && number > 0 && strconv.FormatUint(number, 10) == fields[1] && len(g.device) == sheetPrefix && validDevice(g.device) &&
		validID(strings.Repeat("0", 64-sheetPrefix)+g.id) && part[len(part)-sheetPart:] == sheetCheck(group, sheetPart)
	return g, ok
}
