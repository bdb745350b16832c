package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/faults/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// standIn is a program with a child of its own, as supervisor and member are, that starts the child again when it is
// killed and ends in order on SIGTERM.
const standIn = `#!/bin/bash
trap 'kill $child; exit 7' TERM
while :; do
  sleep 1000 &
  child=$!
  wait $child
done
`

func standInCluster(t *testing.T) *Cluster {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stand-in")
	if err := os.WriteFile(path, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SIDEGRID_BIN", path)
	return New(t, Options{Members: 1})
}

func (c *Cluster) child(t *testing.T, other int) int {
	t.Helper()
	var child int
	c.WaitFor("the child", 10*time.Second, func() (err error) {
		if child, err = c.Members[0].Process(); err == nil && child == other {
			err = fmt.Errorf("it is still %d", child)
		}
		return err
	})
	return child
}

func TestKillsReachWhatTheyShould(t *testing.T) {
	c := standInCluster(t)
	m := c.Members[0]
	c.Must(m.Start())
	if err := m.Start(); err == nil {
		t.Fatal("it was started twice")
	}
	first := c.child(t, 0)
	c.Must(m.KillMember())
	second := c.child(t, first)
	supervisor, err := m.Supervisor()
	c.Must(err)
	if state, _ := processState(supervisor); state == 0 {
		t.Fatal("the supervisor was killed with its child")
	}
	c.Must(m.Pause())
	for _, pid := range []int{supervisor, second} {
		if state, _ := processState(pid); state != 'T' {
			t.Errorf("process %d is in state %c, not stopped", pid, state)
		}
	}
	c.Must(m.Resume())
	c.Must(m.Kill())
	if anyAlive([]int{supervisor, second}) || m.Running() {
		t.Error("something of it is still there")
	}
	c.Must(m.Start())
	c.child(t, second)
	if code, err := m.Stop(10 * time.Second); err != nil || code != 7 {
		t.Errorf("ended with %d, %v", code, err)
	}
}

func TestLogsAreJudged(t *testing.T) {
	lines := map[string]bool{
		"2026-11-24T13:48:24.123456Z  WARN the member died":            true,
		"2026-11-24T13:48:24.123456Z ERROR panic: boom":                true,
		"2026-11-24T13:48:24.123456Z  INFO a WARN in an entry's name":  false,
		"2026-11-24T13:48:24.123456Z  INFO view 7: 3 members":          false,
		"thread 'main' panicked at sidecar/src/main.rs:1:1:":           true,
		"  WARN is how a continued line of something else might begin": false,
	}
	for line, bad := range lines {
		if grave.MatchString(line) != bad {
			t.Errorf("judged wrongly: %s", line)
		}
	}
}

func TestSettingsFileHoldsTheTree(t *testing.T) {
	c := standInCluster(t)
	text, err := os.ReadFile(c.Members[0].config)
	c.Must(err)
	for _, part := range []string{`"bindAddress": "10.98.0.11"`, `"name": "faults-1"`, `"owners": 2`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
}
