// Package netns makes small networks for tests: nodes in network namespaces of their own on one bridge, which has a
// namespace of its own too. Nothing in them has a default route or a link to the machine's own network.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Range is the only range of addresses that tests use besides loopback.
var Range = netip.MustParsePrefix("10.98.0.0/24")

// firstHost is the last byte of the first node's address.
const firstHost = 11

// maxNodes bounds a fabric.
const maxNodes = 32

// nobody is a hardware address that no node has: what is sent to it is carried over the bridge and dropped by all.
const nobody = "02:00:00:00:00:01"

var fabrics atomic.Int64

// Fabric is one bridge with its nodes. Its methods are for one goroutine at a time; a Node's are for any.
type Fabric struct {
	prefix string
	nodes  []*Node
	route  bool
	closed bool
}

// Node is a network namespace with one address on the bridge.
type Node struct {
	// Address is the node's own in Range.
	Address netip.Addr
	name    string
	handle  *os.File
}

// New makes an empty fabric: first the route that keeps the range on the machine, then the bridge.
// What an earlier, killed run left behind is removed on the way.
//
// # Errors
// Without the right to make namespaces, or without iproute2.
func New() (*Fabric, error) {
	sweep()
	f := &Fabric{prefix: fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), fabrics.Add(1))}
	if err := holdRoute(); err != nil {
		return nil, err
	}
	f.route = true
	err := ip("netns", "add", f.hub())
	if err == nil {
		err = ip("-n", f.hub(), "link", "add", "hub", "type", "bridge")
	}
	if err == nil {
		err = ip("-n", f.hub(), "link", "set", "hub", "up")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fabric) hub() string { return f.prefix + "-hub" }

// Nodes are the fabric's nodes in the order they were added.
func (f *Fabric) Nodes() []*Node { return f.nodes }

// Add makes one more node.
//
// # Errors
// Past 32 nodes, or when the namespace can't be made; the fabric is then as it was, or to be closed.
func (f *Fabric) Add() (*Node, error) {
	if len(f.nodes) == maxNodes {
		return nil, fmt.Errorf("a fabric has at most %d nodes", maxNodes)
	}
	address := Range.Addr().As4()
	address[3] = byte(firstHost + len(f.nodes))
	n := &Node{Address: netip.AddrFrom4(address), name: fmt.Sprintf("%s-%d", f.prefix, len(f.nodes)+1)}
	if err := ip("netns", "add", n.name); err != nil {
		return nil, err
	}
	// Known from here on, so that Close removes it whatever happens next.
	f.nodes = append(f.nodes, n)
	port := fmt.Sprintf("port%d", len(f.nodes))
	steps := [][]string{
		{"-n", f.hub(), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", n.name},
		{"-n", f.hub(), "link", "set", port, "master", "hub", "up"},
		{"-n", n.name, "address", "add", fmt.Sprintf("%s/%d", n.Address, Range.Bits()), "dev", "eth0"},
		{"-n", n.name, "link", "set", "lo", "up"},
		{"-n", n.name, "link", "set", "eth0", "up"},
	}
	for _, step := range steps {
		if err := ip(step...); err != nil {
			return nil, err
		}
	}
	var err error
	if n.handle, err = os.Open("/run/netns/" + n.name); err != nil {
		return nil, err
	}
	return n, f.awaitForwarding(port)
}

// awaitForwarding waits until the bridge carries a port's packets: the kernel tells it of a new link's carrier up to
// a second late.
func (f *Fabric) awaitForwarding(port string) error {
	for end := time.Now().Add(10 * time.Second); ; {
		out, err := exec.Command("bridge", "-n", f.hub(), "link", "show", "dev", port).CombinedOutput()
		if err == nil && bytes.Contains(out, []byte("state forwarding")) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the bridge does not forward for %s: %v: %s", port, err, out)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Close removes the nodes, the bridge and the route. Processes in the nodes should have ended before. It may be called twice.
func (f *Fabric) Close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	var all []error
	for _, n := range f.nodes {
		if n.handle != nil {
			all = append(all, n.handle.Close())
		}
		all = append(all, ip("netns", "delete", n.name))
	}
	if _, err := os.Stat("/run/netns/" + f.hub()); err == nil {
		all = append(all, ip("netns", "delete", f.hub()))
	}
	if f.route {
		all = append(all, releaseRoute())
	}
	return errors.Join(all...)
}

// CutOneWay makes everything that `from` sends to `to` vanish without a word, from the next packet on. What `to`
// sends still arrives. The node keeps its address and its routes: its packets go out to a hardware address that
// nobody on the bridge has.
func (f *Fabric) CutOneWay(from, to *Node) error {
	return ip("-n", from.name, "neighbour", "replace", to.Address.String(), "lladdr", nobody, "dev", "eth0", "nud", "permanent")
}

// Cut parts two nodes in both directions.
func (f *Fabric) Cut(a, b *Node) error {
	return errors.Join(f.CutOneWay(a, b), f.CutOneWay(b, a))
}

// Isolate parts a node from all others in both directions.
func (f *Fabric) Isolate(n *Node) error {
	var away strings.Builder
	var all []error
	for _, other := range f.nodes {
		if other != n {
			fmt.Fprintf(&away, "neighbour replace %s lladdr %s dev eth0 nud permanent\n", other.Address, nobody)
			all = append(all, f.CutOneWay(other, n))
		}
	}
	all = append(all, ipBatch(n, away.String()))
	return errors.Join(all...)
}

// Heal ends all cuts at once.
func (f *Fabric) Heal() error {
	var all []error
	for _, n := range f.nodes {
		var back strings.Builder
		for _, other := range f.nodes {
			if other != n {
				// Replaced by an entry that asks for the address anew, so that healing works with or without a cut.
				fmt.Fprintf(&back, "neighbour replace %s lladdr %s dev eth0 nud stale\n", other.Address, nobody)
			}
		}
		all = append(all, ipBatch(n, back.String()), ip("-n", n.name, "neighbour", "flush", "dev", "eth0"))
	}
	return errors.Join(all...)
}

// Name is the namespace's, for `ip netns exec` and for people.
func (n *Node) Name() string { return n.name }

// Do runs a function on a thread that is in the node's namespace. Sockets that it makes stay there.
// The function must not start goroutines that make sockets: those run elsewhere.
func (n *Node) Do(work func() error) error {
	runtime.LockOSThread()
	home, err := enter(n.handle)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	result := work()
	if err := leave(home); err != nil {
		// The thread stays locked and ends with its goroutine: no other goroutine may find itself in the node.
		return errors.Join(result, err)
	}
	runtime.UnlockOSThread()
	return result
}

// DialContext connects from within the node, for an http.Transport or a tls.Dialer. It refuses addresses that are
// neither loopback nor of the fabric, and names: resolving one would ask outside.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := Allowed(address); err != nil {
		return nil, err
	}
	var conn net.Conn
	err := n.Do(func() error {
		var err error
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Allowed says whether a test may connect to an address `ip:port`.
func Allowed(address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("a test connects to addresses only, not to %q", address)
	}
	if a := parsed.Addr().Unmap(); !a.IsLoopback() && !Range.Contains(a) {
		return fmt.Errorf("a test connects to loopback and %s only, not to %s", Range, a)
	}
	return nil
}

// enter moves the calling thread, which must be locked, into a namespace and gives the one that it came from.
func enter(to *os.File) (*os.File, error) {
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return nil, err
	}
	if err := unix.Setns(int(to.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, errors.Join(fmt.Errorf("can't enter a namespace: %w", err), home.Close())
	}
	return home, nil
}

func leave(home *os.File) error {
	err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	if err != nil {
		err = fmt.Errorf("can't leave a namespace: %w", err)
	}
	return errors.Join(err, home.Close())
}

func ip(arguments ...string) error {
	out, err := exec.Command("ip", arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func ipBatch(n *Node, lines string) error {
	if lines == "" {
		return nil
	}
	command := exec.Command("ip", "-n", n.name, "-batch", "-")
	command.Stdin = strings.NewReader(lines)
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip -batch in %s: %w: %s", n.name, err, bytes.TrimSpace(out))
	}
	return nil
}
