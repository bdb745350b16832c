package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m.Run)) }

// fabric makes a fabric of n nodes that ends with the test.
func fabric(t *testing.T, n int) *Fabric {
	t.Helper()
	f, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	for range n {
		if _, err := f.Add(); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// ear is a UDP socket in a node, by which a test sees what arrives there.
type ear struct {
	node *Node
	conn *net.UDPConn
}

func listen(t *testing.T, n *Node) *ear {
	t.Helper()
	e := &ear{node: n}
	err := n.Do(func() (err error) {
		e.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.Address, 5000)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.conn.Close() })
	return e
}

// reaches sends a packet until it arrives; false when none of `tries` did.
func (e *ear) reaches(t *testing.T, to *ear, tries int) bool {
	t.Helper()
	word := fmt.Sprintf("from %s at %d", e.node.Address, time.Now().UnixNano())
	buffer := make([]byte, 256)
	for range tries {
		// An error here is the kernel's word on an earlier packet; whether one arrives is what counts.
		_, _ = e.conn.WriteToUDPAddrPort([]byte(word), netip.AddrPortFrom(to.node.Address, 5000))
		_ = to.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			n, err := to.conn.Read(buffer)
			if err != nil {
				break
			}
			if string(buffer[:n]) == word {
				return true
			}
		}
	}
	return false
}

func TestCutsAreOneWayTwoWayOrOfANodeAndHeal(t *testing.T) {
	f := fabric(t, 3)
	var ears []*ear
	for _, n := range f.Nodes() {
		ears = append(ears, listen(t, n))
	}
	expect := func(when string, cut ...string) {
		t.Helper()
		for i, a := range ears {
			for j, b := range ears {
				if i == j {
					continue
				}
				want := !strings.Contains(strings.Join(cut, " "), fmt.Sprintf("%d>%d", i, j))
				tries := 10
				if want {
					tries = 100
				}
				if got := a.reaches(t, b, tries); got != want {
					t.Errorf("%s: %d reaches %d: %t", when, i, j, got)
				}
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	nodes := f.Nodes()
	expect("at first")
	must(f.CutOneWay(nodes[0], nodes[1]))
	expect("after a one-way cut", "0>1")
	must(f.Heal())
	expect("after healing")
	must(f.Cut(nodes[1], nodes[2]))
	expect("after a cut", "1>2", "2>1")
	must(f.Heal())
	must(f.Isolate(nodes[2]))
	expect("after an isolation", "0>2", "1>2", "2>0", "2>1")
	must(f.Heal())
	must(f.Heal())
	expect("after healing twice")
}

// TestCutLeavesConnectionsStanding: a cut is silence, not a reset; what was sent meanwhile arrives after healing.
func TestCutLeavesConnectionsStanding(t *testing.T) {
	f := fabric(t, 2)
	a, b := f.Nodes()[0], f.Nodes()[1]
	var server net.Listener
	if err := b.Do(func() (err error) {
		server, err = net.Listen("tcp4", netip.AddrPortFrom(b.Address, 6000).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := a.DialContext(context.Background(), "tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if err := f.Cut(a, b); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatalf("the cut broke the connection: %v", err)
	}
	one := make([]byte, 1)
	_ = accepted.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := accepted.Read(one); err == nil {
		t.Fatal("a packet crossed the cut")
	}
	if err := f.Heal(); err != nil {
		t.Fatal(err)
	}
	_ = accepted.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := accepted.Read(one); err != nil {
		t.Fatalf("after healing: %v", err)
	}
}

// TestNothingLeaves: while nodes talk, are cut off and dial each other in vain, no packet of theirs is seen on the
// device of the default route, nor on any other of this namespace; and from here the range can't be reached at all.
func TestNothingLeaves(t *testing.T) {
	f := fabric(t, 2)
	everywhere, err := Sniff("")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	a, b := f.Nodes()[0], f.Nodes()[1]
	var inside *Sniffer
	if err := a.Do(func() (err error) { inside, err = Sniff("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	from, to := listen(t, a), listen(t, b)
	if !from.reaches(t, to, 100) {
		t.Fatal("the nodes don't reach each other")
	}
	if err := f.Isolate(b); err != nil {
		t.Fatal(err)
	}
	before := inside.Seen()
	if from.reaches(t, to, 10) {
		t.Fatal("the cut doesn't cut")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if conn, err := a.DialContext(ctx, "tcp4", b.Address.String()+":7800"); err == nil {
		_ = conn.Close()
		t.Fatal("a connection crossed the cut")
	}
	if inside.Seen() == before {
		t.Fatal("the sniffer sees nothing even where packets are sent, so it proves nothing")
	}
	if conn, err := net.DialTimeout("tcp4", b.Address.String()+":7800", time.Second); err == nil {
		_ = conn.Close()
		t.Fatal("this namespace reaches the nodes")
	}
	out, err := exec.Command("ip", "route", "get", b.Address.String()).CombinedOutput()
	if err == nil {
		t.Errorf("there is a way from here to the range: %s", out)
	}
	if seen := everywhere.Seen(); seen != 0 {
		t.Errorf("%d packets of the tests' range were seen outside the nodes", seen)
	}
}

func TestOutsideIsRefused(t *testing.T) {
	n := fabric(t, 1).Nodes()[0]
	for _, address := range []string{"192.0.2.1:80", "example.com:80", "localhost:80", "[2001:db8::1]:80", "10.98.1.1:80", "10.98.0.11"} {
		if conn, err := n.DialContext(context.Background(), "tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s was dialled", address)
		} else if !strings.Contains(err.Error(), "a test connects to") {
			t.Errorf("%s was tried: %v", address, err)
		}
	}
	for _, address := range []string{"127.0.0.1:80", "[::1]:80", "10.98.0.12:80"} {
		if err := Allowed(address); err != nil {
			t.Errorf("%s is refused: %v", address, err)
		}
	}
}

// TestProgramsRunInsideAndNothingIsLeftBehind starts a real program in a node, and looks for what Close must remove.
func TestProgramsRunInsideAndNothingIsLeftBehind(t *testing.T) {
	f := fabric(t, 1)
	n := f.Nodes()[0]
	command := exec.Command("ip", "-brief", "address", "show", "dev", "eth0")
	var out strings.Builder
	command.Stdout = &out
	if err := n.Start(command); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil || !strings.Contains(out.String(), n.Address.String()) {
		t.Fatalf("%v: %s", err, out.String())
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir("/run/netns")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if strings.HasPrefix(entry.Name(), f.prefix) {
			t.Errorf("%s is still there", entry.Name())
		}
	}
	routes, err := exec.Command("ip", "route", "show").CombinedOutput()
	if err != nil || strings.Contains(string(routes), fmt.Sprint(routeMetric+os.Getpid())) {
		t.Errorf("the route is still there: %v %s", err, routes)
	}
}
