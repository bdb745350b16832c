package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// patience is how long a reader repeats what is refused for now, far longer than any change of the view may take.
const patience = 30 * time.Second

// retryPause is between two of its tries.
const retryPause = 50 * time.Millisecond

// parallel is how many calls are under way at once.
const parallel = 8

// Ledger holds the sessions that were acknowledged, to be looked for later.
type Ledger struct {
	client *Client

	mu       sync.Mutex
	sessions []Session
	// made counts the names that were given out, acknowledged or not.
	made int
}

// NewLedger is an empty one.
func NewLedger(client *Client) *Ledger { return &Ledger{client: client} }

// Len is how many sessions were acknowledged.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sessions)
}

// Write makes sessions at the addresses until `count` more were acknowledged. What isn't acknowledged is tried at
// another address, and is no loss. `addresses` is asked anew each time, for pods come and go.
func (l *Ledger) Write(ctx context.Context, count int, addresses func() []string) error {
	return l.each(ctx, count, func(int) error {
		return l.insist(ctx, addresses, func(address string) error {
			session, err := l.client.Login(ctx, address, l.name())
			if err == nil {
				l.mu.Lock()
				l.sessions = append(l.sessions, session)
				l.mu.Unlock()
			}
			return err
		})
	})
}

// Felt is what callers of a service felt over a while: how long the longest answered call took, and how many calls were
// answered by a fault of the service (500 and up), or not to the end though a pod had taken the call.
type Felt struct {
	Write, Read time.Duration
	Calls       int
	Faults      []string
}

// maxFaults bounds the answers that are kept.
const maxFaults = 20

// Add takes what another caller felt.
func (f *Felt) Add(other Felt) {
	f.Write, f.Read, f.Calls = max(f.Write, other.Write), max(f.Read, other.Read), f.Calls+other.Calls
	f.Faults = append(f.Faults, other.Faults...)
}

func (f *Felt) call(longest *time.Duration, call func() error) error {
	began := time.Now()
	err := call()
	f.Calls++
	if err == nil {
		*longest = max(*longest, time.Since(began))
	} else if isFault(err) && len(f.Faults) < maxFaults {
		f.Faults = append(f.Faults, err.Error())
	}
	return err
}

// isFault tells a call that went wrong at the service from one that found no pod.
func isFault(err error) bool {
	var refused *Refused
	var dial *net.OpError
	if errors.As(err, &refused) {
		return refused.Status >= 500
	}
	return !errors.As(err, &dial) || dial.Op != "dial"
}

// WriteUntil makes sessions at the addresses, one after another, and reads each where the next one is made, until ctx
// ends; refusals are no error. What was felt is of the calls that were answered: a pod that has gone answers none. The
// call that is under way at the end is waited for, for the longest one tells the most.
func (l *Ledger) WriteUntil(ctx context.Context, addresses func() []string) (felt Felt) {
	call := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		if all := addresses(); len(all) > 0 {
			session := Session{User: l.name()}
			at := rand.IntN(len(all))
			err := felt.call(&felt.Write, func() (err error) {
				session, err = l.client.Login(call, all[at], session.User)
				return err
			})
			if err == nil {
				l.mu.Lock()
				l.sessions = append(l.sessions, session)
				l.mu.Unlock()
				// One that is answered 401 here is lost, and shows at the check.
				err = felt.call(&felt.Read, func() error {
					_, err := l.client.Read(call, all[(at+1)%len(all)], session.Cookie)
					return err
				})
			}
			if err == nil {
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
	return felt
}

// Check reads every session at one of the addresses, each at another one, and tells all that are lost or wrong.
func (l *Ledger) Check(ctx context.Context, addresses []string) error {
	if len(addresses) == 0 {
		return errors.New("no pod to read at")
	}
	l.mu.Lock()
	sessions := append([]Session(nil), l.sessions...)
	l.mu.Unlock()
	if len(sessions) == 0 {
		return errors.New("no session was acknowledged, so nothing is shown")
	}
	var mu sync.Mutex
	var lost []string
	err := l.each(ctx, len(sessions), func(i int) error {
		session := sessions[i]
		var user string
		turn := i
		at := func() []string { turn++; return addresses[turn%len(addresses) : turn%len(addresses)+1] }
		err := l.insist(ctx, at, func(address string) (err error) {
			user, err = l.client.Read(ctx, address, session.Cookie)
			return err
		})
		var refused *Refused
		if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized || err == nil && user != session.User {
			mu.Lock()
			lost = append(lost, fmt.Sprintf("%s (%s): %q %v", session.User, session.Cookie, user, err))
			mu.Unlock()
			return nil
		}
		return err
	})
	if len(lost) > 0 {
		return errors.Join(fmt.Errorf("%d of %d acknowledged sessions are lost, such as %s", len(lost), len(sessions),
			strings.Join(lost[:min(3, len(lost))], "; ")), err)
	}
	return err
}

// insist repeats a call while it is refused for now or not answered. A 401 is an answer.
func (l *Ledger) insist(ctx context.Context, addresses func() []string, call func(address string) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := errors.New("no pod is ready")
	for {
		if all := addresses(); len(all) > 0 {
			err = call(all[rand.IntN(len(all))])
			var refused *Refused
			if err == nil || errors.As(err, &refused) && refused.Status < 500 {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", patience, err)
		case <-time.After(retryPause):
		}
	}
}

// each calls work with 0 to count-1, some at once, and gives the first error after all have ended.
func (l *Ledger) each(ctx context.Context, count int, work func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	turns := make(chan int)
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for i := range turns {
				if err := work(i); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for i := range count {
		select {
		case turns <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(turns)
	all.Wait()
	return context.Cause(ctx)
}

func (l *Ledger) name() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	return fmt.Sprintf("user-%d", l.made)
}
