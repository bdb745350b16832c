package faults

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/sidegrid/faults/cluster"
	"example.com/sidegrid/faults/netns"
)

// someMember is a member id that no incarnation has; the chance is one in 2^64.
const someMember = "00000000000000ab"

// ports are the two that members of one cluster alone may use.
var ports = map[string]uint16{"data": cluster.DataPort, "failure detection": cluster.FailureDetectionPort}

// TestStrangersAreRefused: on both ports, whoever shows no certificate, one of another authority, or one of this
// authority for another cluster, is refused by name; one that is right in all is not, or the test would prove nothing.
func TestStrangersAreRefused(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 2})
	other := cluster.Start(t, cluster.Options{Members: 1, Name: "other"})
	ours, theirs := readAuthority(t, c.Registry), readAuthority(t, other.Registry)
	outside, err := c.Fabric.Add()
	c.Must(err)
	cases := []struct {
		who     string
		show    func() []string
		refused bool
	}{
		{"no certificate", func() []string { return nil }, true},
		{"another cluster's member", func() []string { return shown(theirs.issue(t, theirs.Cluster, someMember)) }, true},
		{"another authority in our name", func() []string { return shown(theirs.issue(t, ours.Cluster, someMember)) }, true},
		{"our authority for another cluster", func() []string { return shown(ours.issue(t, theirs.Cluster, someMember)) }, true},
		{"our authority without an identity", func() []string { return shown(ours.issue(t, "nobody", someMember)) }, true},
		{"a member of ours", func() []string { return shown(ours.issue(t, ours.Cluster, someMember)) }, false},
	}
	for _, one := range cases {
		for name, port := range ports {
			address := netip.AddrPortFrom(c.Members[0].Node.Address, port)
			said, err := shakeHands(outside, address, one.show())
			if err != nil {
				t.Errorf("%s, %s port: %v: %s", one.who, name, err, said)
				continue
			}
			if !strings.Contains(said, "CONNECTED") {
				t.Errorf("%s, %s port: no connection at all, so nothing is shown: %s", one.who, name, said)
			}
			alert := alertIn(said)
			t.Logf("%s, %s port: %s", one.who, name, alert)
			if refused := alert != "no alert"; refused != one.refused {
				t.Errorf("%s, %s port: %s: %s", one.who, name, alert, said)
			}
		}
	}
	c.WaitFormed(c.Members...)
}

func shown(certificate, key string) []string { return []string{"-cert", certificate, "-key", key} }

// shakeHands runs `openssl s_client` in a node until the member closes the connection, which it does at the latest
// when it has waited for a hello in vain.
func shakeHands(from *netns.Node, to netip.AddrPort, show []string) (string, error) {
	if err := netns.Allowed(to.String()); err != nil {
		return "", err
	}
	arguments := append([]string{"s_client", "-connect", to.String(), "-tls1_3", "-ign_eof"}, show...)
	command := exec.Command("openssl", arguments...)
	var said lockedText
	command.Stdout, command.Stderr = &said, &said
	if err := from.Start(command); err != nil {
		return "", err
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // what it said tells more than its code
		close(ended)
	}()
	select {
	case <-ended:
		return said.String(), nil
	case <-time.After(30 * time.Second):
		_ = command.Process.Kill()
		<-ended
		return said.String(), fmt.Errorf("the connection stays open for 30 s")
	}
}

// alertIn is the TLS alert that openssl reports, in its own words.
func alertIn(said string) string {
	for line := range strings.Lines(said) {
		if _, alert, found := strings.Cut(line, " alert "); found {
			return strings.TrimSpace(alert)
		}
	}
	return "no alert"
}

// lockedText takes the output of a program from two pipes.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestForeignMemberIsRefused: a member of another cluster that is pointed at this one's registry document, and that
// even takes this cluster's identity for its own, is let in nowhere, and this cluster does not change.
func TestForeignMemberIsRefused(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 2, Announced: []string{"is suspected"}})
	s := writeSessions(t, "sessions", 50, c.Members)
	before := c.View(c.Members[0])
	other := cluster.New(t, cluster.Options{Members: 1, Fabric: c.Fabric, NamePrefix: "stranger",
		Announced: slices.Concat(joinWarnings, faultWarnings, lastWarnings)})
	stranger := other.Members[0]
	// Once alone, to have an authority of its own; then with our document and our identity beside that authority.
	c.Must(stranger.Start())
	other.WaitFormed(stranger)
	other.EndInOrder(stranger)
	forged := readAuthority(t, other.Registry)
	forged.Cluster = readAuthority(t, c.Registry).Cluster
	text, err := json.Marshal(forged)
	c.Must(err)
	c.Must(os.WriteFile(authorityPath(other.Registry), text, 0o600))
	document, err := os.ReadFile(c.Registry)
	c.Must(err)
	c.Must(os.WriteFile(other.Registry, document, 0o600))
	c.Must(stranger.Start())

	refusals := func() (n float64) {
		for _, m := range c.Members {
			n += c.Metric(m, "sidegrid_net_failures_total")
		}
		return n
	}
	c.WaitFor("refusals of the stranger's connections", 30*time.Second, func() error {
		if n := refusals(); n < 10 {
			return fmt.Errorf("%g so far", n)
		}
		return nil
	})
	if stranger.Ready() {
		t.Error("the stranger serves")
	}
	if after := c.View(c.Members[0]); after != before {
		t.Errorf("the view went from %d to %d", before, after)
	}
	c.WaitFormed(c.Members...)
	s.allReadable("with a stranger at the door", c.Members)
}
