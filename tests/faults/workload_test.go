package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
	"example.com/sidegrid/faults/history"
)

// Shape of a round's load: enough clients for real races on each key, few enough operations for the checker.
const (
	clients       = 9
	plainKeys     = 6
	counterKeys   = 3
	thinkingTime  = 4 * time.Millisecond // on average
	maxOperations = 200_000              // of one round
)

// load is concurrent clients on random members whose operations are recorded.
type load struct {
	t       *testing.T
	cache   string
	round   int
	members []*cluster.Member
	began   time.Time
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	count   atomic.Int64
	serial  atomic.Int64

	mu  sync.Mutex
	all []history.Entry
}

// startLoad starts the clients. Keys belong to the round, so that each begins with nothing.
func startLoad(t *testing.T, cache string, round int, seed uint64, members []*cluster.Member) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cache: cache, round: round, members: members, began: time.Now(), cancel: cancel}
	for id := range clients {
		random := rand.New(rand.NewPCG(seed, uint64(id)))
		l.ended.Go(func() { l.client(ctx, id, random) })
	}
	return l
}

// stop ends the clients once each has its answer, and gives what they did.
func (l *load) stop() []history.Entry {
	l.cancel()
	l.ended.Wait()
	return l.all
}

// client does one operation after another. It remembers the ETags that it has seen, for conditional writes; some of
// them are out of date when they are used, as they should be.
func (l *load) client(ctx context.Context, id int, random *rand.Rand) {
	seen := map[string]string{}
	var own []history.Entry
	for ctx.Err() == nil && l.count.Add(1) < maxOperations {
		operation := l.choose(random, seen)
		member := l.members[random.IntN(len(l.members))]
		entry := history.Entry{Client: id, Operation: operation, Call: time.Since(l.began).Nanoseconds()}
		answer, err := perform(member, l.cache, operation)
		entry.Return = time.Since(l.began).Nanoseconds()
		entry.Answer = answer
		if err != nil {
			l.t.Errorf("%s through %s: %v", operation, member.Name, err)
			return
		}
		own = append(own, entry)
		if answer.Fate == history.Decided && answer.ETag != "" && answer.Status < 300 {
			seen[operation.Key] = answer.ETag
		}
		pace(ctx, time.Duration(random.Int64N(int64(2*thinkingTime))))
	}
	l.mu.Lock()
	l.all = append(l.all, own...)
	l.mu.Unlock()
}

// choose picks an operation: half of them read, as apps do.
func (l *load) choose(random *rand.Rand, seen map[string]string) history.Operation {
	n := random.IntN(plainKeys + counterKeys)
	o := history.Operation{Key: fmt.Sprintf("r%d-k%d", l.round, n), Counter: n >= plainKeys}
	dice := random.IntN(100)
	if o.Counter {
		switch {
		case dice < 30:
			o.Kind = history.Read
		case dice < 95:
			o.Kind, o.By = history.Increment, random.Int64N(9)-3
		default:
			o.Kind = history.Delete
		}
		return o
	}
	o.Match = seen[o.Key]
	switch {
	case dice < 50:
		o.Kind = history.Read
	case dice < 65:
		o.Kind = history.Put
	case dice < 75:
		o.Kind = history.Create
	case dice < 90 && o.Match != "":
		o.Kind = history.Swap
	case dice < 93 && o.Match != "":
		o.Kind = history.Remove
	default:
		o.Kind = history.Delete
	}
	if o.Kind == history.Put || o.Kind == history.Create || o.Kind == history.Swap {
		o.Value = fmt.Sprintf("r%d-%d", l.round, l.serial.Add(1))
	}
	if o.Kind != history.Swap && o.Kind != history.Remove {
		o.Match = ""
	}
	return o
}

// perform does an operation and reads the answer as an app may: what it says of its effect is taken at its word.
// The error is an answer that the contract doesn't know.
func perform(m *cluster.Member, cache string, o history.Operation) (history.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), client.Timeout)
	defer cancel()
	var reply *client.Reply
	var err error
	switch o.Kind {
	case history.Read:
		reply, err = m.API.Get(ctx, cache, o.Key)
	case history.Put:
		reply, err = m.API.Put(ctx, cache, o.Key, o.Value)
	case history.Create:
		reply, err = m.API.Put(ctx, cache, o.Key, o.Value, "If-None-Match", "*")
	case history.Swap:
		reply, err = m.API.Put(ctx, cache, o.Key, o.Value, "If-Match", o.Match)
	case history.Delete:
		reply, err = m.API.Delete(ctx, cache, o.Key)
	case history.Remove:
		reply, err = m.API.Delete(ctx, cache, o.Key, "If-Match", o.Match)
	default:
		reply, err = m.API.Increment(ctx, cache, o.Key, o.By)
	}
	switch {
	case err != nil && client.NotSent(err):
		return history.Answer{Fate: history.Refused}, nil
	case err != nil:
		return history.Answer{Fate: history.Unknown}, nil
	}
	return judge(o, reply)
}

// judge turns an answer of HTTP into one of the model.
func judge(o history.Operation, reply *client.Reply) (history.Answer, error) {
	decided := history.Answer{Fate: history.Decided, Status: reply.Status, ETag: reply.ETag()}
	switch {
	case reply.Status >= 408 && reply.Status != 412:
		if reply.Problem == nil {
			return decided, fmt.Errorf("%d without a problem document", reply.Status)
		}
		switch reply.Problem.Applied {
		case "no":
			return history.Answer{Fate: history.Refused}, nil
		case "unknown":
			return history.Answer{Fate: history.Unknown}, nil
		}
		return decided, fmt.Errorf("a refusal that doesn't say whether it was applied: %s", reply)
	case reply.Status == 404 && reply.Problem != nil && o.Kind != history.Read && o.Kind != history.Delete:
		return decided, fmt.Errorf("unexpected: %s", reply)
	case reply.Status == 200 && (o.Kind == history.Read || o.Kind == history.Increment):
		decided.Value = string(reply.Body)
	case reply.Status == 201, reply.Status == 204, reply.Status == 404, reply.Status == 412:
	default:
		return decided, fmt.Errorf("unexpected: %s", reply)
	}
	if decided.ETag == "" && !o.Counter && reply.Status < 300 && o.Kind != history.Delete && o.Kind != history.Remove {
		return decided, errors.New("a value without an ETag")
	}
	return decided, nil
}
