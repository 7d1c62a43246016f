package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Another recovery phrase takes the place of the one that stands: which one does, and
// what counts then, is in package crypto (replace.go). This file brings it to the
// remotes and keeps the owner's answers.

// A NewPhrase is all that puts another recovery phrase in the place of the one that
// stands. crypto.Keyring makes it; it is the same type as crypto's.
type NewPhrase = struct {
	ID        string
	Finder    []byte
	At        string
	Statement []byte
	Door      bool
}

// A PhraseOffer is a replacement of the recovery phrase that waits for the owner's
// yes. It is the same type as crypto's.
type PhraseOffer = struct {
	ID        string // of the new phrase; the device that made it shows it
	By        string // the device that says so, or "phrase"
	Statement string
	Conflict  bool // another phrase has the place already that this one wants
}

const phrasesKey = "phrases"

// A phrasesNote is what the owner said of phrases on this device.
type phrasesNote struct {
	Accepted []string `json:"accepted,omitempty"` // in order
	Refused  []string `json:"refused,omitempty"`
}

func (r *Replica) phrasesNow() phrasesNote {
	return phrasesNote{r.sealer.AcceptedPhrases(), r.sealer.RefusedPhrases()}
}

func (n phrasesNote) equal(o phrasesNote) bool {
	return slices.Equal(n.Accepted, o.Accepted) && slices.Equal(n.Refused, o.Refused)
}

// notePhrases adds to n what is accepted, if that is not what the note says: it may
// have been taken with the signature of the former phrase.
func (r *Replica) notePhrases(ctx context.Context, n notes) error {
	var old phrasesNote
	if _, err := r.note(ctx, phrasesKey, &old); err != nil {
		return err
	}
	if now := r.phrasesNow(); !now.equal(old) {
		n.set(phrasesKey, now)
	}
	return nil
}

// loadPhrases tells the keyring what the owner said.
func (r *Replica) loadPhrases(ctx context.Context) error {
	var note phrasesNote
	if _, err := r.note(ctx, phrasesKey, &note); err != nil {
		return err
	}
	for _, id := range note.Accepted {
		if err := r.sealer.AcceptPhrase(id); err != nil {
			return err
		}
	}
	for _, id := range note.Refused {
		if err := r.sealer.RefusePhrase(id); err != nil {
			return err
		}
	}
	return nil
}

// PendingPhrases are the recovery phrases that are offered in the place of the one
// that stands on this device, and that the owner neither accepted nor refused here.
func (r *Replica) PendingPhrases() []PhraseOffer { return r.sealer.PendingPhrases() }

// AcceptPhrase is the owner's yes to an offered phrase, on this device. It stands from
// then on; the next pass makes a new epoch for it.
func (r *Replica) AcceptPhrase(ctx context.Context, id string) error {
	if !slices.ContainsFunc(r.sealer.PendingPhrases(), func(o PhraseOffer) bool { return o.ID == id }) {
		return fmt.Errorf("no recovery phrase %q is offered; 'locker status' shows those that are", id)
	}
	return r.answer(ctx, id, r.sealer.AcceptPhrase)
}

// RefusePhrase is the owner's no, also to a phrase that was accepted before.
func (r *Replica) RefusePhrase(ctx context.Context, id string) error {
	return r.answer(ctx, id, r.sealer.RefusePhrase)
}

func (r *Replica) answer(ctx context.Context, id string, say func(id string) error) error {
	r.pass.Lock()
	defer r.pass.Unlock()
	if err := say(id); err != nil {
		return err
	}
	n := notes{}
	n.set(phrasesKey, r.phrasesNow())
	return r.state.SetNotes(ctx, n)
}

// ReplacePhrase puts another recovery phrase in the place of the one that stands.
// prepare makes it, after this device has read who is a member: what a phrase signed,
// and its replacement has not seen, does not count any more. It
// is called once the owner has the new one: from the moment at which it is durable
// here the new one stands on this device. Cut off before, nothing has changed; cut off
// later, the next pass goes on. Where a former phrase signed it the other devices
// follow by themselves, else each asks its owner. The error is [ErrUnreachable] where
// no remote has it yet: till then the new phrase finds nothing.
func (r *Replica) ReplacePhrase(ctx context.Context, prepare func() (*NewPhrase, error)) (Summary, error) {
	p, end, err := r.begin(ctx, SyncOptions{})
	if err != nil {
		return Summary{}, err
	}
	defer end()
	if !p.getSelf().Joined {
		return Summary{}, errors.New("this device is not part of a locker yet")
	}
	err = p.replacePhrase(ctx, prepare)
	return p.finish(ctx, err)
}

func (p *pass) replacePhrase(ctx context.Context, prepare func() (*NewPhrase, error)) error {
	p.o.Full = true
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := p.finishDoor(ctx); err != nil {
		return err
	}
	next, err := prepare()
	if err != nil {
		return err
	}
	ref := Ref{Kind: "phrase", Writer: phrase, To: next.At[2:]}
	if p.sealer.Name(ref) != next.At {
		return fmt.Errorf("%q is not where a new phrase's object can be", next.At)
	}
	finder := staged{ref, sumOf(next.Finder), next.Finder}
	if next.Door {
		if err := p.stage(ctx, p.getSelf(), notes{}, finder); err != nil {
			return err
		}
		if err := p.sayByPhrase(ctx, next.Statement); err != nil {
			return err
		}
		return p.run(ctx)
	}
	// Accepted first: should this be cut off in between, nobody asks about what this
	// device said itself.
	n := notes{}
	now := p.phrasesNow()
	now.Accepted = append(slices.Clip(now.Accepted), next.ID)
	n.set(phrasesKey, now)
	if err := p.stage(ctx, p.getSelf(), n, finder); err != nil {
		return err
	}
	if err := p.sealer.AcceptPhrase(next.ID); err != nil {
		return err
	}
	if err := p.sealMember(ctx, next.Statement); err != nil {
		return err
	}
	return p.run(ctx)
}

// sayByPhrase seals a door that says something, puts it and lets it count; where
// another device has its number, under the next one.
func (p *pass) sayByPhrase(ctx context.Context, payload []byte) error {
	for range doorsMissing {
		if err := p.sealDoorOf(ctx, "", payload); err != nil {
			return err
		}
		err := p.finishDoor(ctx)
		if !errors.Is(err, errDoorTaken) {
			return err
		}
		if _, err := p.readDoors(ctx, doorsMissing); err != nil {
			return err
		}
	}
	return errDoorTaken
}

// finders are the objects by which the phrases that stood, but the first, find the
// locker: any device that can copies them.
func (r *Replica) finders() (list []known) {
	for at, sum := range r.sealer.Finders() {
		list = append(list, known{ref: Ref{Kind: "phrase", Writer: phrase, To: at}, id: sum, sum: sum})
	}
	slices.SortFunc(list, func(a, b known) int { return slices.Compare([]byte(a.ref.To), []byte(b.ref.To)) })
	return list
}

// keepFinders keeps a copy of what leads a new phrase to the locker, so that this
// device can put it again.
func (p *pass) keepFinders(ctx context.Context) error {
	for _, k := range p.finders() {
		if _, err := p.kept(k.ref, k.sum); err == nil {
			continue
		}
		object, err := p.anywhere(ctx, nil, k)
		if err != nil {
			return err
		}
		if object == nil {
			continue
		}
		if err := p.keep(k.ref, object); err != nil {
			return err
		}
	}
	return nil
}

// phraseNotices are about phrases that wait for the owner.
func (r *Replica) phraseNotices() (pending, alarms []Notice) {
	for _, o := range r.sealer.PendingPhrases() {
		n := Notice{
			Kind: "phrase", Device: o.By,
			What: fmt.Sprintf("%s says that there is a new recovery phrase, %s; this device goes on with the former one", r.nameOf(o.By), o.ID),
			Do:   fmt.Sprintf("if you made it, and %s was shown with it, run 'locker phrase accept %s' here; if not, 'locker phrase refuse %s', and remove that device", o.ID, o.ID, o.ID),
		}
		if o.By == phrase {
			n.Device = ""
			n.What = fmt.Sprintf("the former recovery phrase signed two new ones: this device has one, and not %s", o.ID)
		}
		if !o.Conflict {
			pending = append(pending, n)
			continue
		}
		n.Do = fmt.Sprintf("if both are yours, choose: 'locker phrase accept %s' or 'locker phrase refuse %s', the same on each device; if not, somebody else has the former phrase: make a new locker", o.ID, o.ID)
		alarms = append(alarms, n)
	}
	return pending, alarms
}

// Find returns the object of a name from the first remote that has one, or nil where
// none has: of the object by which a phrase that replaced another one finds its
// locker. The error is [ErrUnreachable] where no remote could be read. Whoever gets
// the object has to check it.
func Find(ctx context.Context, remotes []Named, name string) ([]byte, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%q is no name of an object", name)
	}
	errs := []error{ErrUnreachable}
	for _, named := range remotes {
		object, err := find(ctx, named.Remote, name)
		switch {
		case err == nil:
			return object, nil
		case errors.Is(err, ErrNotFound):
			errs = nil
		case errs != nil:
			errs = append(errs, fmt.Errorf("%s: %w", named.Name, err))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, errors.Join(errs...)
}

func find(ctx context.Context, remote Remote, name string) ([]byte, error) {
	body, err := remote.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	object, err := io.ReadAll(io.LimitReader(body, maxFinder))
	return object, errors.Join(err, body.Close())
}

// maxFinder bounds what is read in the place of such an object.
const maxFinder = 64 << 10
