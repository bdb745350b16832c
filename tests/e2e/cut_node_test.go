package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"example.com/sidegrid/e2e/processes"
)

// TestCutNode: a node that is cut off answers nothing of the cache until it is back; the others go on with all that was
// acknowledged; and once it is healed all are one cluster again, with nothing lost.
func TestCutNode(t *testing.T) {
	w := startWeb(newSpace(t, "cut", faultWarnings, registryWarnings, cutOperatorWarnings), sized(500, 5000))
	away, others := w.pods[0], w.pods[1:]
	// Not on the cut node together: a pod there would be cut off as well.
	for _, pod := range others {
		if pod.Spec.NodeName == away.Spec.NodeName {
			t.Fatalf("two members are on %s, so the cut would take both", away.Spec.NodeName)
		}
	}
	session, err := w.client.Login(w.ctx, away.Status.PodIP, "cut")
	w.must(err)
	inside := w.process(&away, processes.App)
	if status := w.statusInside(w.ctx, inside, session.Cookie); status != "200" {
		t.Fatalf("before the cut it answers %s", status)
	}

	t.Cleanup(func() {
		if err := w.machine.Heal(context.Background(), away.Spec.NodeName); err != nil {
			t.Error(err)
		}
	})
	w.must(w.machine.Cut(w.ctx, away.Spec.NodeName))
	w.until(settleLimit, "refusal at the cut member", func(ctx context.Context) error {
		if status := w.statusInside(ctx, inside, session.Cookie); status != "503" {
			return fmt.Errorf("it answers %s", status)
		}
		return nil
	})
	w.until(settleLimit, "a view without the cut member", func(ctx context.Context) error { return w.agree(ctx, others) })
	w.use(others)
	w.must(w.ledger.Write(w.ctx, 100, w.addresses))
	w.must(w.ledger.Check(w.ctx, addresses(others)))
	if status := w.statusInside(w.ctx, inside, session.Cookie); status != "503" {
		t.Errorf("cut off, it answers %s", status)
	}

	w.must(w.machine.Heal(w.ctx, away.Spec.NodeName))
	pods := w.settled("web", 3)
	w.must(w.ledger.Check(w.ctx, addresses(pods)))
}

// statusInside asks the app for a session from within its pod, where a cut doesn't reach, and gives the HTTP status.
func (s *space) statusInside(ctx context.Context, pid int, cookie string) string {
	command := exec.CommandContext(ctx, "nsenter", "--net="+processes.Network(pid), "curl", "--silent", "--max-time", "8",
		"--output", "/dev/null", "--write-out", "%{http_code}", "--cookie", "session="+cookie, "http://127.0.0.1:8080/session")
	// curl fails when nothing answers, and says 000 then.
	out, err := command.Output()
	if len(out) == 0 && err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
