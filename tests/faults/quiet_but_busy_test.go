package faults

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"example.com/sidegrid/faults/cluster"
	"example.com/sidegrid/faults/netns"
)

// TestQuietButBusy measures: twenty minutes with hardly any requests while all cores are loaded by other work. Each
// lease that was lost is a false alarm of the default settings on a crowded machine.
func TestQuietButBusy(t *testing.T) {
	onlyLong(t)
	const last = 20 * time.Minute
	c := cluster.Start(t, cluster.Options{Members: 3, Announced: faultWarnings})
	s := writeSessions(t, "sessions", 1_000, c.Members)
	for range runtime.NumCPU() {
		work := exec.Command("sh", "-c", "while :; do :; done")
		c.Must(netns.StartHere(work))
		t.Cleanup(func() {
			_ = work.Process.Signal(syscall.SIGKILL)
			_ = work.Wait()
		})
	}
	view := c.View(c.Members[0])
	began := time.Now()
	for n := 0; time.Since(began) < last; n++ {
		for i, m := range c.Members {
			if err := readAndWrite(m, fmt.Sprint("quiet-", i), n); err != nil {
				t.Logf("%s into the run, %s: %v", time.Since(began).Round(time.Second), m.Name, err)
			}
		}
		time.Sleep(time.Second)
	}
	for _, m := range c.Members {
		t.Logf("%s: %d leases lost, %d suspicions", m.Name, c.Count(m, "the lease ran out"), c.Count(m, "is suspected"))
	}
	t.Logf("view %d at first, %d after %s with %d busy cores", view, c.View(c.Members[0]), last, runtime.NumCPU())
	s.allReadable("after it", c.Members)
}
