package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"testing"
	"time"

	"example.com/sidegrid/faults/cluster"
)

// fault is one way to hurt a cluster. It returns once the hurt is over and everything that it stopped runs again.
type fault struct {
	name string
	hurt func(c *cluster.Cluster, random *rand.Rand) (what string, err error)
}

// faults are one at a time: with two owners, a second one before the copies are there again may rightly lose data.
var allFaults = []fault{
	{"kill of the member process", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		m := pick(c, random)
		return m.Name, m.KillMember()
	}},
	{"kill of supervisor and member", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		m := pick(c, random)
		if err := m.Kill(); err != nil {
			return m.Name, err
		}
		down := between(random, 0, 2*time.Second)
		time.Sleep(down)
		return fmt.Sprintf("%s, down %d ms", m.Name, down.Milliseconds()), m.Start()
	}},
	{"pause", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		m := pick(c, random)
		// Mostly around lease and suspicion, where the races are; at times far beyond.
		asleep := between(random, 300*time.Millisecond, 1500*time.Millisecond)
		if long() && random.IntN(4) == 0 {
			asleep = between(random, 1500*time.Millisecond, 20*time.Second)
		}
		if err := m.Pause(); err != nil {
			return m.Name, err
		}
		time.Sleep(asleep)
		return fmt.Sprintf("%s, asleep %d ms", m.Name, asleep.Milliseconds()), m.Resume()
	}},
	{"cut of one member from all", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		m := pick(c, random)
		return cutFor(c, random, m.Name, func() error { return c.Fabric.Isolate(m.Node) })
	}},
	{"cut between two members", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		a, b := pickTwo(c, random)
		return cutFor(c, random, a.Name+" | "+b.Name, func() error { return c.Fabric.Cut(a.Node, b.Node) })
	}},
	{"one-way cut", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		a, b := pickTwo(c, random)
		return cutFor(c, random, a.Name+" > "+b.Name, func() error { return c.Fabric.CutOneWay(a.Node, b.Node) })
	}},
	{"drain and return", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		m := pick(c, random)
		if err := m.Drain(drainTimeout); err != nil {
			return m.Name, err
		}
		if _, err := m.Stop(drainTimeout); err != nil {
			return m.Name, err
		}
		return m.Name, m.Start()
	}},
	{"registry away during a kill", func(c *cluster.Cluster, random *rand.Rand) (string, error) {
		hidden := c.Registry + ".away"
		if err := os.Rename(c.Registry, hidden); err != nil {
			return "", err
		}
		m := pick(c, random)
		err := m.KillMember()
		time.Sleep(between(random, 300*time.Millisecond, 2*time.Second))
		if back := os.Rename(hidden, c.Registry); err == nil {
			err = back
		}
		return m.Name, err
	}},
}

// chosenFaults are those that SIDEGRID_FAULT leaves.
func chosenFaults(t *testing.T) []fault {
	t.Helper()
	wanted, err := regexp.Compile(os.Getenv("SIDEGRID_FAULT"))
	if err != nil {
		t.Fatal(err)
	}
	var chosen []fault
	for _, f := range allFaults {
		if wanted.MatchString(f.name) {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) == 0 {
		t.Fatalf("no fault is named like %s", wanted)
	}
	return chosen
}

// cutFor makes a cut, lets it last, and heals it.
func cutFor(c *cluster.Cluster, random *rand.Rand, who string, cut func() error) (string, error) {
	if err := cut(); err != nil {
		return who, err
	}
	parted := between(random, 200*time.Millisecond, 3*time.Second)
	time.Sleep(parted)
	return fmt.Sprintf("%s, %d ms", who, parted.Milliseconds()), c.Fabric.Heal()
}

func pick(c *cluster.Cluster, random *rand.Rand) *cluster.Member {
	return c.Members[random.IntN(len(c.Members))]
}

func pickTwo(c *cluster.Cluster, random *rand.Rand) (*cluster.Member, *cluster.Member) {
	order := random.Perm(len(c.Members))
	return c.Members[order[0]], c.Members[order[1]]
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}
