package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// A gap in a log is healed by its writer, or by anybody who has the object as it was
// sealed. Doors and membership every device keeps; of others' entries the newest small
// ones, until a base of their writer covers them: so what a remote loses of the last
// days comes back though its writer is away. What is older, or large, is copied from
// another remote, or waits for its writer, which keeps all that is its own.
const (
	copyMost = 128 << 10 // bytes of an entry that is kept
	copyLast = 64        // of each device's log
)

// keepCopy keeps an entry of another device as it was sealed, and drops the one that
// is too old for it now. A copy need not survive a crash: its sum tells whether it did.
func (p *pass) keepCopy(ctx context.Context, rd *reading, f fetched, peer *peerNote, entry *logNote, n notes) error {
	number := f.ref.Number
	if p.restoring || len(f.sealed) == 0 || len(f.sealed) > copyMost || rd.removed || number+copyLast <= peer.top() {
		return nil
	}
	if number > copyLast {
		old, key := logNote{}, logKey(rd.device, number-copyLast)
		value, err := p.state.Note(ctx, key)
		if err != nil {
			return err
		}
		if value != nil {
			if err := json.Unmarshal(value, &old); err != nil {
				return fmt.Errorf("note %s: %w", key, err)
			}
		}
		if old.Sum != "" {
			if err := p.dropCopyOf(peer, rd.device, number-copyLast, old); err != nil {
				return err
			}
			old.Sum, old.Size = "", 0
			n.set(key, old)
		}
	}
	path, err := p.path(f.ref)
	if err == nil {
		err = p.writeCopy(path, f.sealed)
	}
	if err != nil {
		p.log.Warn("an entry of another device is not kept", "err", err)
		return nil
	}
	entry.Sum, entry.Size = sumOf(f.sealed), int64(len(f.sealed))
	peer.Copies, peer.Copied = peer.Copies+1, peer.Copied+entry.Size
	return nil
}

// writeCopy replaces a file, without waiting for it to be durable.
func (r *Replica) writeCopy(path string, data []byte) error {
	f, err := r.disk.Create(filepath.Dir(path))
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = r.disk.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, r.disk.Remove(f.Name()))
	}
	return nil
}

// dropCopy drops the copy of an entry of another device, if its note says that there
// is one.
func (p *pass) dropCopy(device string, number uint64, note []byte) error {
	var entry logNote
	if err := json.Unmarshal(note, &entry); err != nil || entry.Sum == "" {
		return err
	}
	p.dirty[device] = true
	return p.dropCopyOf(p.peer(device), device, number, entry)
}

func (p *pass) dropCopyOf(peer *peerNote, device string, number uint64, entry logNote) error {
	path, err := p.path(Ref{Kind: "entry", Writer: device, Number: number})
	if err == nil {
		err = p.disk.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dropping a copy of an entry: %w", err)
	}
	peer.Copies, peer.Copied = max(0, peer.Copies-1), max(0, peer.Copied-entry.Size)
	return nil
}

// dropCopies drops all copies: they may hold what was purged.
func (p *pass) dropCopies(ctx context.Context) error {
	for _, device := range p.everyone() {
		if device == p.sealer.Device() || p.peer(device).Copies == 0 {
			continue
		}
		n := notes{}
		peer := p.peer(device).copy()
		err := p.eachNote(ctx, "log/"+device+"/", func(key string, value []byte) error {
			var entry logNote
			number, err := hexNumber(key)
			if err = errors.Join(err, json.Unmarshal(value, &entry)); err != nil || entry.Sum == "" {
				return err
			}
			err = p.dropCopyOf(peer, device, number, entry)
			entry.Sum, entry.Size = "", 0
			n.set(logKey(device, number), entry)
			return err
		})
		if err != nil {
			return err
		}
		peer.Copies, peer.Copied = 0, 0
		n.set(peerKey(device), peer)
		if err := p.state.SetNotes(ctx, n); err != nil {
			return err
		}
		p.peers[device] = peer
	}
	return nil
}
