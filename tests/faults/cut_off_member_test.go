package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
)

// served is one question to the cut-off member and its answer.
type served struct {
	key          int
	began, ended time.Time
	reply        *client.Reply
	err          error
}

// refused says whether it is a refusal as the contract has it: to be tried again, and certainly without effect.
func (s served) refused() bool {
	return s.err == nil && s.reply.Problem != nil && s.reply.Problem.Retryable && s.reply.Problem.Applied == "no"
}

// TestCutOffMember: a member that nobody hears refuses within its lease, answers nothing older than what the others
// have acknowledged, and serves again by itself when it is heard (L-1, L-5, R-1, V-8).
func TestCutOffMember(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 3, Announced: faultWarnings})
	away, rest := c.Members[2], c.Members[:2]
	// Enough keys that the member to be cut off is primary of some, owner of some and neither of some.
	const keys = 24
	write := func(value string, through *cluster.Member) {
		t.Helper()
		for k := range keys {
			reply, err := insist(func(ctx context.Context) (*client.Reply, error) {
				return through.API.Put(ctx, "sessions", fmt.Sprint("cut-", k), value)
			})
			if err != nil || reply.Status >= 300 {
				t.Fatalf("writing %s through %s: %v %v", value, through.Name, reply, err)
			}
		}
	}
	write("old", away)

	watch := newWatch(away, keys)
	c.Must(c.Fabric.Isolate(away.Node))
	cut := time.Now()
	write("new", rest[0])
	acknowledged := time.Now()
	c.WaitFor("refusal by "+away.Name, 10*time.Second, func() error {
		if last := watch.last(); !last.refused() {
			return fmt.Errorf("it answers %v, %v", last.reply, last.err)
		}
		return nil
	})
	c.WaitFormed(rest...)
	// What the member would still say of any key, now that the others have moved on, it must have had time to say.
	c.WaitFor("a question for every key", 30*time.Second, func() error {
		if asked := watch.keysAskedSince(acknowledged); asked < keys {
			return fmt.Errorf("%d of %d keys were asked for", asked, keys)
		}
		return nil
	})

	healing := time.Now()
	c.Must(c.Fabric.Heal())
	healed := time.Now()
	c.WaitFor(away.Name+" to serve again", 10*time.Second, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		reply, err := away.API.Get(ctx, "sessions", "cut-0")
		if err != nil {
			return err
		}
		if reply.Status != 200 {
			return fmt.Errorf("it answers %s", reply)
		}
		return nil
	})
	back := time.Now()
	lastGood, firstRefusal := cut, healing
	for _, s := range watch.stop() {
		switch {
		case s.err == nil && s.reply.Status == 200:
			if string(s.reply.Body) == "old" && s.began.After(acknowledged) {
				t.Errorf("stale: asked %s after the newer value was acknowledged, %s answered the older", s.began.Sub(acknowledged), away.Name)
			}
			if s.ended.Before(healing) && s.ended.After(lastGood) {
				lastGood = s.ended
			}
		case s.refused() && s.ended.After(cut) && s.ended.Before(firstRefusal):
			firstRefusal = s.ended
		case s.err != nil:
			t.Errorf("%s gave no answer at all: %v", away.Name, s.err)
		}
	}
	t.Logf("after the cut: last answer at %d ms, first refusal at %d ms, newer values acknowledged at %d ms; served again %d ms after healing",
		lastGood.Sub(cut).Milliseconds(), firstRefusal.Sub(cut).Milliseconds(), acknowledged.Sub(cut).Milliseconds(), back.Sub(healed).Milliseconds())
	if lastGood.Sub(cut) > 5*time.Second {
		t.Errorf("%s answered for %s after the cut", away.Name, lastGood.Sub(cut))
	}
	c.WaitFormed(c.Members...)
	for k := range keys {
		reply, err := insist(func(ctx context.Context) (*client.Reply, error) {
			return away.API.Get(ctx, "sessions", fmt.Sprint("cut-", k))
		})
		if err != nil || string(reply.Body) != "new" {
			t.Errorf("after healing %s answers for key %d: %v %v", away.Name, k, reply, err)
		}
	}
}

// watch asks a member for each key, all the time.
type watch struct {
	mu     sync.Mutex
	all    []served
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// maxWatched bounds what a watch keeps; at the pace below it is never reached.
const maxWatched = 500_000

func newWatch(m *cluster.Member, keys int) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel}
	for key := range keys {
		w.ended.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				reply, err := m.API.Get(ctx, "sessions", fmt.Sprint("cut-", key))
				w.mu.Lock()
				if len(w.all) < maxWatched && ctx.Err() == nil {
					w.all = append(w.all, served{key: key, began: began, ended: time.Now(), reply: reply, err: err})
				}
				w.mu.Unlock()
				pace(ctx, 5*time.Millisecond)
			}
		})
	}
	return w
}

// keysAskedSince counts the keys that were asked for after a time and answered since.
func (w *watch) keysAskedSince(then time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := map[int]bool{}
	for _, s := range w.all {
		if s.began.After(then) {
			asked[s.key] = true
		}
	}
	return len(asked)
}

// last is the newest answer.
func (w *watch) last() served {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) == 0 {
		return served{err: errors.New("nothing yet")}
	}
	return w.all[len(w.all)-1]
}

func (w *watch) stop() []served {
	w.cancel()
	w.ended.Wait()
	return w.all
}
