package replica

// rules are rules of the protocol, each of which a test switches off to see that
// the suites then fail. Only a test in this package can do that: in the product all
// fields are false, which means that all rules hold.
type rules struct {
	inOrder    bool // on each remote a number is put only after its predecessor
	perRemote  bool // each remote has its own place in the outbox
	cloneCheck bool // before any put a device looks at the next name of its own log
	stopAtGap  bool // the vector stays before a gap
	readBeyond bool // entries beyond a gap are applied
	atOnce     bool // the lines of an entry and the notes of it are one durable write
	patience   bool // what may be the fault of a slow cloud is pending for a day
	forks      bool // two different entries of one number are an alarm at once
	ownAhead   bool // so is one's own log further on than one wrote it
	shown      bool // the sender's watch
	named      bool // what others name and is not there is missing
	putAgain   bool // writers put again what a remote has lost
	listIsHint bool // a listing does not prove that something is not there
	membership bool // membership is read before data, and again when a tip is not known
	pins       bool // nothing of a removed device counts beyond its pin
	again      bool // what is held beyond a pin is published again
	adopt      bool // a member adopts the log of a removed device
	quietAck   bool // an entry without records calls for no answer
	ladder     bool // marks are deleted eight numbers late
	purge      bool // who learns of a ban writes its own log anew
	nextDoor   bool // who finds its door taken takes the next
}
