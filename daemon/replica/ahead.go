package replica

import (
	"context"
	"sync"
)

// Where many small objects are looked for one after the other, most of which are not
// there, they are asked for side by side before: what the cloud is away counts once.

// aheadMost is how many objects are asked for side by side.
const aheadMost = 24

// An early is what was asked for ahead and not taken yet.
type early struct {
	mu     sync.Mutex
	coming map[string]chan looked // by name
	group  sync.WaitGroup
	slots  chan struct{}
}

// looked is what came of looking for an object.
type looked struct {
	object  object
	verdict verdict
	err     error
}

// ahead begins to look for objects that fetch will be asked for. What was looked for
// before and not taken is forgotten: it may have come meanwhile.
func (p *pass) ahead(ctx context.Context, refs ...Ref) {
	p.early.group.Wait()
	p.early.mu.Lock()
	defer p.early.mu.Unlock()
	p.early.coming = map[string]chan looked{}
	if p.early.slots == nil {
		p.early.slots = make(chan struct{}, aheadMost)
	}
	for _, ref := range refs {
		name, c := p.sealer.Name(ref), make(chan looked, 1)
		p.early.coming[name] = c
		p.early.group.Go(func() {
			p.early.slots <- struct{}{}
			o, v, err := p.ask(ctx, ref)
			<-p.early.slots
			c <- looked{o, v, err}
		})
	}
}

// fetch looks for an object on the remotes, in their order, until one has it whole.
// The error is the pass's end only.
func (p *pass) fetch(ctx context.Context, ref Ref) (object, verdict, error) {
	name := p.sealer.Name(ref)
	p.early.mu.Lock()
	c := p.early.coming[name]
	delete(p.early.coming, name)
	p.early.mu.Unlock()
	if c == nil {
		return p.ask(ctx, ref)
	}
	l := <-c
	if l.err == nil && l.verdict == closed && l.object.sealed != nil { // its key may have come since
		l.object, l.verdict = p.open(ref, l.object.sealed)
	}
	return l.object, l.verdict, l.err
}

// aheadOfMembers looks ahead for what a thorough look at members asks for first: the
// next doors, and of the devices that are known what they may have written next.
func (p *pass) aheadOfMembers(ctx context.Context, doors bool) {
	var refs []Ref
	if doors {
		next := p.getSelf().Doors
		if next > 0 {
			next--
		}
		for i := range uint64(doorsMissing + 1) {
			refs = append(refs, doorRef(next+i))
		}
	}
	for _, device := range p.others() {
		peer := p.peer(device)
		refs = append(refs, Ref{Kind: "member", Writer: device, Number: peer.Member + 1})
		for i := range uint64(2) {
			refs = append(refs, Ref{Kind: "epoch", Writer: device, Number: peer.Epoch + 1 + i, To: p.reader()})
		}
	}
	p.ahead(ctx, refs...)
}
