package store

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// names gives collections, devices and imports short numbers. Number 0 is the
// empty string. Numbers are given by the one writer; those that are not yet on
// disk go with its next batch.
type names struct {
	mu    sync.RWMutex
	texts []string
	ids   map[string]uint32
	saved int // how many are on disk
}

func loadNames(db *pebble.DB) (*names, error) {
	n := &names{texts: []string{""}, ids: map[string]uint32{"": 0}}
	err := scan(db, []byte{spaceNames}, func(key, val []byte) error {
		if len(key) != 5 || int(binary.BigEndian.Uint32(key[1:])) != len(n.texts) {
			return fmt.Errorf("damaged table of names at %d", len(n.texts))
		}
		n.ids[string(val)] = uint32(len(n.texts))
		n.texts = append(n.texts, string(val))
		return nil
	})
	n.saved = len(n.texts)
	return n, err
}

// text returns the string of a number.
func (n *names) text(id uint32) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if int(id) >= len(n.texts) {
		return ""
	}
	return n.texts[id]
}

// all returns all strings, by number.
func (n *names) all() []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.texts[:len(n.texts):len(n.texts)]
}

// find returns the number of a string that may have none.
func (n *names) find(text string) (uint32, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok := n.ids[text]
	return id, ok
}

// number returns the number of a string and gives it one if need be.
func (n *names) number(text string) uint32 {
	if id, ok := n.find(text); ok {
		return id
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	id := uint32(len(n.texts))
	n.texts = append(n.texts, text)
	n.ids[text] = id
	return id
}

// unsaved yields to put what is not on disk yet and returns how many names there
// are; once they are durable, that is the new value of saved.
func (n *names) unsaved(put func(key, val []byte) error) (int, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for id := n.saved; id < len(n.texts); id++ {
		if err := put(nameKey(spaceNames, uint32(id)), []byte(n.texts[id])); err != nil {
			return 0, err
		}
	}
	return len(n.texts), nil
}
