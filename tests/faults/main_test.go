package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
	"example.com/sidegrid/faults/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// long says whether the long forms were asked for.
func long() bool { return os.Getenv("SIDEGRID_LONG") == "1" }

// sized is a count or a duration for the short form and one for the long one.
func sized[T any](short, otherwise T) T {
	if long() {
		return otherwise
	}
	return short
}

// onlyLong skips a test that measures, or takes long.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long() {
		t.Skip("long form only: SIDEGRID_LONG=1")
	}
}

// retryPause is between two tries of a client that repeats what was refused.
const retryPause = 5 * time.Millisecond

// patience is how long such a client goes on: far longer than any change of the view may take.
const patience = 30 * time.Second

// insist repeats a request while it is refused as retryable or gets no answer, as an app would, and gives the first
// other answer.
func insist(ask func(context.Context) (*client.Reply, error)) (*client.Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		reply, err := ask(ctx)
		if err == nil && (reply.Problem == nil || !reply.Problem.Retryable) {
			return reply, nil
		}
		if err == nil {
			err = fmt.Errorf("refused: %s", reply)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("not within %s: %w", patience, err)
		case <-time.After(retryPause):
		}
	}
}

// names are the names of members, for messages.
func names(members []*cluster.Member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.Name)
	}
	return strings.Join(all, " ")
}

// Warnings that a fault brings with it, for cluster.Options.Announced; any other fails the test.
var (
	faultWarnings    = []string{"is suspected", "the lease ran out", "superseded", "the member died", "an exclusion can't go on"}
	registryWarnings = []string{"the registry can't be reached", "the registry's document is missing", "missing although it was created once"}
	joinWarnings     = []string{"can't join yet"}
	lastWarnings     = []string{"groups went with members that left"}
	lossWarnings     = []string{"groups is lost"}
)
