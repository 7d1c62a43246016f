package replica_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// TestSoak runs the suites for as many minutes as LOCKER_SOAK says: simulations, and
// between them attacks and schedules on slow clouds. Each failure prints its seed.
func TestSoak(t *testing.T) {
	minutes, err := strconv.ParseFloat(os.Getenv("LOCKER_SOAK"), 64)
	if err != nil {
		t.Skip("LOCKER_SOAK does not say how many minutes")
	}
	end := time.Now().Add(time.Duration(minutes * float64(time.Minute)))
	whole, pair := newTarget(t), newPair(t)
	for round := 0; time.Now().Before(end); round++ {
		list := seeds(t, 200)
		eachSeed(t, list, func(seed uint64) error {
			switch {
			case time.Now().After(end):
				return nil
			case seed%10 == 8:
				return pair.schedule(t, seed).run()
			case seed%10 == 9:
				return whole.attack(t, seed, int(seed/10%1e6))
			}
			_, err := simulate(t, seed, false, replica.Rules{})
			return err
		})
		t.Logf("round %d: %d seeds from %d on", round, len(list), list[0])
		if t.Failed() {
			return
		}
	}
}
