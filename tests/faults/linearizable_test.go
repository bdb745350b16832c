package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"example.com/sidegrid/faults/cluster"
	"example.com/sidegrid/faults/history"
)

// checkPatience is how long the checker may search in one key's history.
const checkPatience = 60 * time.Second

// TestLinearizable: rounds of concurrent clients through random members under one fault each. Every key's history is
// checked with porcupine for reads, writes, conditional writes, deletes and increments; what was refused as not
// applied must not be seen (L-5, O-3, R-1, R-2, W-1, W-2, M-1, C-6, D-1).
//
// SIDEGRID_SEED repeats the choices of a run, though not its timing; SIDEGRID_FAULT (a regular expression) leaves
// only the faults of matching names.
func TestLinearizable(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("SIDEGRID_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := cluster.Start(t, cluster.Options{Members: 3, Announced: slices.Concat(faultWarnings, registryWarnings)})
	caches := []string{"sessions", "work"}
	rounds := sized(3, 56)
	faults := chosenFaults(t)
	var operations, unknown, refused int
	for round := range rounds {
		// Every kind of fault has its turn, in an order of chance within each cycle; the short form takes three.
		fault := faults[(round+int(seed%uint64(len(faults))))%len(faults)]
		cache := caches[round%len(caches)]
		load := startLoad(t, cache, round, random.Uint64(), c.Members)
		time.Sleep(between(random, 300*time.Millisecond, 1200*time.Millisecond)) // some load before,
		what, err := fault.hurt(c, random)
		if err != nil {
			t.Errorf("round %d, %s (%s): %v", round, fault.name, what, err)
		}
		c.WaitFormed(c.Members...) // through the change,
		all := load.stop()
		verdict := history.Check(all, checkPatience)
		operations += verdict.Operations
		unknown += verdict.Unknown
		refused += verdict.Refused
		t.Logf("round %d, %s, %s (%s): %d operations, %d refused, %d of unknown fate, %d violations",
			round, cache, fault.name, what, verdict.Operations, verdict.Refused, verdict.Unknown, len(verdict.Violations))
		for i, violation := range verdict.Violations {
			path := filepath.Join(c.Dir, "violation-"+strconv.Itoa(round)+"-"+strconv.Itoa(i)+".txt")
			c.Must(os.WriteFile(path, []byte(violation), 0o644))
			t.Errorf("round %d: %.300s ...\n(whole in %s)", round, violation, path)
		}
		if len(verdict.Undecided) > 0 {
			t.Errorf("round %d: the checker did not finish with %v", round, verdict.Undecided)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d rounds without a violation: %d operations, %d refused, %d of unknown fate", rounds, operations, refused, unknown)
}
