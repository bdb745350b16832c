package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// maxInstances bounds how many clusters one machine can carry side by side: each has a range of its own.
const maxInstances = 10

// maxNodes bounds a cluster's nodes, each of which has a /24 for its pods.
const maxNodes = 9

// routeMetric is that of the route that keeps a cluster's range on the machine. It is high, so that every real route
// goes before it.
const routeMetric = 4096

// network is where one instance lives: 10.(99+instance).0.0/16, of which nodes have .0.0/24, services .64.0/20 and pods
// .128.0/17. Every name and address follows from the instance's number alone, so that what a killed run left can be
// found without knowing anything else.
type network struct {
	instance int
	nodes    int
}

func (n network) address(third, last byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(99 + n.instance), third, last})
}

func (n network) everything() netip.Prefix { return netip.PrefixFrom(n.address(0, 0), 16) }
func (n network) services() netip.Prefix   { return netip.PrefixFrom(n.address(64, 0), 20) }
func (n network) pods() netip.Prefix       { return netip.PrefixFrom(n.address(128, 0), 17) }

// control is the address of the API server and the DNS server: the bridge's own.
func (n network) control() netip.Addr { return n.address(0, 1) }

// dns is the address of the cluster's DNS service.
func (n network) dns() netip.Addr { return n.address(64, 10) }

// etcd is a loopback address of the instance's own, which no pod can reach.
func (n network) etcd() netip.Addr { return netip.AddrFrom4([4]byte{127, 99, byte(n.instance), 1}) }

func (n network) nodeAddress(node int) netip.Addr { return n.address(0, byte(10+node)) }
func (n network) nodePods(node int) netip.Prefix {
	return netip.PrefixFrom(n.address(byte(128+node), 0), 24)
}

// name is that of the bridge and of the control groups, and begins the names of namespaces and links.
func (n network) name() string               { return fmt.Sprintf("sgk%d", n.instance) }
func (n network) namespace(node int) string  { return fmt.Sprintf("%s-node%d", n.name(), node) }
func (n network) link(node int) string       { return fmt.Sprintf("%s-v%d", n.name(), node) }
func (n network) namespacePath(i int) string { return "/run/netns/" + n.namespace(i) }

// there says whether the bridge exists, under whatever cluster.
func (n network) there() bool {
	_, err := os.Stat("/sys/class/net/" + n.name())
	return err == nil
}

// free fails when the machine itself uses addresses of the instance's range.
func (n network) free() error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Overlaps(n.everything()) {
			return fmt.Errorf("instance %d would use %s, but this machine has %s: choose another instance", n.instance, n.everything(), prefix)
		}
	}
	return nil
}

// make makes the route that keeps everything here, then the bridge, then the nodes' namespaces. Nodes have no default
// route: only those to each other, each other's pods and, for kube-proxy to translate, the services.
func (n network) make(ctx context.Context) error {
	control := n.control()
	err := runAll(ctx,
		fmt.Sprintf("ip route add unreachable %s metric %d", n.everything(), routeMetric),
		fmt.Sprintf("ip link add %s type bridge", n.name()),
		fmt.Sprintf("ip address add %s/24 dev %s", control, n.name()),
		fmt.Sprintf("ip link set %s up", n.name()),
	)
	if err != nil {
		return err
	}
	// Should the machine forward packets, it still takes none from the cluster to anywhere.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+n.name()+"/forwarding", []byte("0"), 0o644); err != nil {
		return err
	}
	for i := 1; i <= n.nodes; i++ {
		if err := n.makeNode(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (n network) makeNode(ctx context.Context, i int) error {
	space := n.namespace(i)
	lines := []string{
		"ip netns add " + space,
		fmt.Sprintf("ip link add %s type veth peer name eth0 netns %s", n.link(i), space),
		fmt.Sprintf("ip link set %s master %s up", n.link(i), n.name()),
		fmt.Sprintf("ip -n %s address add %s/24 dev eth0", space, n.nodeAddress(i)),
		fmt.Sprintf("ip -n %s link set lo up", space),
		fmt.Sprintf("ip -n %s link set eth0 up", space),
		fmt.Sprintf("ip -n %s route add %s via %s", space, n.services(), n.control()),
		fmt.Sprintf("ip netns exec %s sysctl -qw net.ipv4.ip_forward=1", space),
		fmt.Sprintf("ip route add %s via %s", n.nodePods(i), n.nodeAddress(i)),
	}
	for j := 1; j <= n.nodes; j++ {
		if j != i {
			lines = append(lines, fmt.Sprintf("ip -n %s route add %s via %s", space, n.nodePods(j), n.nodeAddress(j)))
		}
	}
	return runAll(ctx, lines...)
}

// remove removes whatever of it is there. The route that keeps everything here goes last.
func (n network) remove(ctx context.Context) error {
	var failed error
	spaces, err := filepath.Glob("/run/netns/" + n.name() + "-*")
	failed = errors.Join(failed, err)
	for _, path := range spaces {
		failed = errors.Join(failed, runAll(ctx, "ip netns delete "+filepath.Base(path)))
	}
	links, err := filepath.Glob("/sys/class/net/" + n.name() + "-*")
	failed = errors.Join(failed, err)
	for _, path := range links {
		_, err := run(ctx, "ip", "link", "delete", filepath.Base(path))
		// A link goes with its namespace, but a moment later.
		if _, gone := os.Stat(path); err != nil && !errors.Is(gone, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	if n.there() {
		failed = errors.Join(failed, runAll(ctx, "ip link delete "+n.name()))
	}
	if failed != nil {
		return failed
	}
	route, err := run(ctx, "ip", "route", "show", "type", "unreachable", "exact", n.everything().String())
	if err == nil && strings.TrimSpace(route) != "" {
		err = runAll(ctx, fmt.Sprintf("ip route delete unreachable %s metric %d", n.everything(), routeMetric))
	}
	return err
}

// cutTable is the name of the table whose rules cut a node off.
const cutTable = "sidegrid_cut"

// cut drops every packet that comes in or goes out over the node's link, of its pods as well. It is done inside of the
// node's namespace: were the host's address or route removed, packets for it could leave the machine. The hooks are the
// first and the last ones, before and behind all of kube-proxy's.
func (n network) cut(ctx context.Context, node int) error {
	rules := fmt.Sprintf(`table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	chain in { type filter hook prerouting priority -450; policy accept; iifname "eth0" drop; }
	chain out { type filter hook postrouting priority 450; policy accept; oifname "eth0" drop; }
}
`, cutTable)
	_, err := runWith(ctx, strings.NewReader(rules), "nsenter", "--net="+n.namespacePath(node), "nft", "-f", "-")
	return err
}

// heal takes the rules away; without any it does nothing.
func (n network) heal(ctx context.Context, node int) error {
	rules := fmt.Sprintf("table inet %[1]s\ndelete table inet %[1]s\n", cutTable)
	_, err := runWith(ctx, strings.NewReader(rules), "nsenter", "--net="+n.namespacePath(node), "nft", "-f", "-")
	return err
}

// isCut says whether the rules are there.
func (n network) isCut(ctx context.Context, node int) (bool, error) {
	tables, err := run(ctx, "nsenter", "--net="+n.namespacePath(node), "nft", "list", "tables")
	return strings.Contains(tables, cutTable), err
}
