package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/e2e/processes"
)

// leaseLimit is within what a member without echoes stops answering: its lease of 0.6 s, and time to be asked.
const leaseLimit = 1500 * time.Millisecond

// TestCutNode: a node that is cut off answers nothing of the cache until it is back; the others go on with all that was
// acknowledged; and once it is healed all are one cluster again, with nothing lost.
func TestCutNode(t *testing.T) {
	w := startWeb(newSpace(t, "cut", faultWarnings, registryWarnings), sized(500, 5000))
	away, others := w.pods[0], w.pods[1:]
	// Not on the cut node together: a pod there would be cut off as well.
	for _, pod := range others {
		if pod.Spec.NodeName == away.Spec.NodeName {
			t.Fatalf("two members are on %s, so the cut would take both", away.Spec.NodeName)
		}
	}
	session, err := w.client.Login(w.ctx, away.Status.PodIP, "cut")
	w.must(err)
	inside := insider(w.process(&away, processes.App))
	if status := inside.session(w.ctx, session.Cookie); status != "200" {
		t.Fatalf("before the cut it answers %s", status)
	}

	t.Cleanup(func() {
		if err := w.machine.Heal(context.Background(), away.Spec.NodeName); err != nil {
			t.Error(err)
		}
	})
	// Any key will do, since what has no lease answers neither a value nor that there is none.
	entry := "http://127.0.0.1:7080/v1/caches/sessions/entries/some-key"
	if status := inside.status(w.ctx, entry); status != "404" {
		t.Fatalf("before the cut its sidecar answers %s", status)
	}
	w.cutOff = away.Spec.NodeName
	w.must(w.machine.Cut(w.ctx, w.cutOff))
	cut := time.Now()
	for inside.status(w.ctx, entry) != "503" {
		if time.Since(cut) > leaseLimit {
			t.Fatalf("its sidecar still answers %s after the cut", leaseLimit)
		}
	}
	t.Logf("the cut member answered nothing any more %s after the cut", time.Since(cut).Round(time.Millisecond))
	w.until(settleLimit, "refusal at the cut member", func(ctx context.Context) error {
		if status := inside.session(ctx, session.Cookie); status != "503" {
			return fmt.Errorf("it answers %s", status)
		}
		return nil
	})
	w.until(settleLimit, "a view without the cut member", func(ctx context.Context) error { return w.agree(ctx, others) })
	w.until(settleLimit, "a status that says so", func(ctx context.Context) error {
		cluster, err := w.cacheCluster(ctx, "web")
		if err != nil {
			return err
		}
		if cluster.Is("Ready") != "False" || cluster.Status.Ready != "2/3" {
			return fmt.Errorf("Ready is %s, with %s", cluster.Is("Ready"), cluster.Status.Ready)
		}
		return nil
	})
	w.use(others)
	w.must(w.ledger.Write(w.ctx, 100, w.addresses))
	w.must(w.ledger.Check(w.ctx, addresses(others)))
	if status := inside.session(w.ctx, session.Cookie); status != "503" {
		t.Errorf("cut off, it answers %s", status)
	}

	w.must(w.machine.Heal(w.ctx, away.Spec.NodeName))
	pods := w.settled("web", 3)
	w.must(w.ledger.Check(w.ctx, addresses(pods)))
}

// insider is a process of a pod: requests are made from its network, where a cut doesn't reach.
type insider int

// session asks the app for a session and gives the HTTP status.
func (i insider) session(ctx context.Context, cookie string) string {
	return i.status(ctx, "http://127.0.0.1:8080/session", "--cookie", "session="+cookie)
}

func (i insider) status(ctx context.Context, url string, options ...string) string {
	arguments := []string{"--net=" + processes.Network(int(i)), "curl", "--silent", "--max-time", "8",
		"--output", "/dev/null", "--write-out", "%{http_code}", url}
	// curl fails when nothing answers, and says 000 then.
	out, err := exec.CommandContext(ctx, "nsenter", append(arguments, options...)...).Output()
	if len(out) == 0 && err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

// body asks a sidecar's HTTP API.
func (i insider) body(ctx context.Context, path string) (string, error) {
	command := exec.CommandContext(ctx, "nsenter", "--net="+processes.Network(int(i)), "curl", "--silent", "--show-error", "--fail",
		"--max-time", "8", "http://127.0.0.1:7080"+path)
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", path, err, out)
	}
	return string(out), err
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
