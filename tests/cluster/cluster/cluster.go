// Package cluster makes a real Kubernetes on one machine: the control plane on a bridge of the machine's own network
// namespace, each node in namespaces of its own with containerd, kubelet and kube-proxy. It needs root, Linux and the
// Debian packages of .ci/install-packages, and neither a container engine nor the internet once the programs are built.
//
// Nothing of it may leave the machine: the cluster's range of addresses is unreachable by the machine's default route,
// nodes have no default route, and a node is cut off by rules within its namespace.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// AnyInstance asks Up for the first instance that is free.
const AnyInstance = -1

// patience bounds how long Up takes once the programs are there.
const patience = 3 * time.Minute

// Options say what Up makes.
type Options struct {
	// Root is the folder in which each instance has one. Empty: DefaultRoot.
	Root string
	// Instance is 0 to 9, or AnyInstance. Each has its own names and addresses, so that several can be up side by side.
	Instance int
	// Nodes is 1 to 9. Zero: three.
	Nodes int
	// Owned ties the cluster to this process: once it is gone, however that came about, a watchdog takes the cluster down
	// (and should that fail, the next Up), and as long as it lives nobody else's Down does. Without it the cluster stays
	// until Down.
	Owned bool
	// Log gets a line for each phase with its time. Nil: nothing is said.
	Log io.Writer
}

// Cluster is one that is up. Its methods are for any goroutine; none may be used after Down.
type Cluster struct {
	folder  string
	network network
	groups  cgroups
	api     *api
	lock    *os.File
	// watchdog is there if this process owns the cluster.
	watchdog *watchdog

	mutex sync.Mutex
	state state
}

// DefaultRoot is SIDEGRID_CLUSTER_DIR, or a folder among the machine's temporary ones.
func DefaultRoot() string {
	if root := os.Getenv("SIDEGRID_CLUSTER_DIR"); root != "" {
		return root
	}
	return filepath.Join(os.TempDir(), "sidegrid-cluster")
}

// rootFolder is an absolute path, since the cluster's processes run elsewhere; the default for an empty one.
func rootFolder(root string) (string, error) {
	if root == "" {
		root = DefaultRoot()
	}
	return filepath.Abs(root)
}

// Up builds what is missing and makes a cluster: it returns when all nodes are Ready and DNS is there. Remains of
// clusters whose makers or owners are dead are removed first. If it fails, nothing is left.
//
// # Errors
// Without root, when the instance is taken, or when a part doesn't come up, with the last lines of its log.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	if options.Log == nil {
		options.Log = io.Discard
	}
	root, err := rootFolder(options.Root)
	if err != nil {
		return nil, err
	}
	options.Root = root
	if options.Nodes == 0 {
		options.Nodes = 3
	}
	if options.Nodes < 1 || options.Nodes > maxNodes || options.Instance < AnyInstance || options.Instance >= maxInstances {
		return nil, fmt.Errorf("a cluster has 1 to %d nodes, and its instance is 0 to %d", maxNodes, maxInstances-1)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a cluster needs root: it makes network namespaces and mounts")
	}
	total := startWatch()
	bin, err := Build(ctx, options.Log)
	if err != nil {
		return nil, err
	}
	total.say(options.Log, "programs are there: "+bin)
	c, err := claim(ctx, options, bin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.make(ctx, options.Log); err != nil {
		// The context may be what ended it; the cleaning has its own time.
		return nil, errors.Join(err, c.Down())
	}
	if !options.Owned {
		c.release()
	}
	total.say(options.Log, fmt.Sprintf("cluster %d is up, kubeconfig %s", c.network.instance, c.Kubeconfig()))
	return c, nil
}

// make makes everything, each phase with its time.
func (c *Cluster) make(ctx context.Context, log io.Writer) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := starter{cluster: c, fail: fail}
	var enter [][]string
	phases := []struct {
		name string
		do   func() error
	}{
		{"network, control groups and keys", func() error { return c.furnish(ctx) }},
		{"API server, and containerd on each node", func() error {
			enter = make([][]string, c.network.nodes)
			return together(c.network.nodes+1, func(i int) (err error) {
				if i == c.network.nodes {
					return c.startAPI(ctx, s)
				}
				enter[i], err = c.startNode(ctx, s, i+1)
				return err
			})
		}},
		{"nodes ready", func() error {
			err := c.startControllers(s)
			for i, words := range enter {
				err = errors.Join(err, c.joinNode(s, i+1, slices.Clip(words)))
			}
			if err != nil {
				return err
			}
			if err := c.startDNS(ctx, s); err != nil {
				return err
			}
			if err := c.awaitNodes(ctx); err != nil {
				return err
			}
			return c.awaitAccount(ctx)
		}},
	}
	for _, phase := range phases {
		watch := startWatch()
		if err := phase.do(); err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		watch.say(log, phase.name)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.state.Up = true
	return c.state.write(c.folder)
}

// furnish makes what the processes live in.
func (c *Cluster) furnish(ctx context.Context) error {
	if err := c.network.make(ctx); err != nil {
		return err
	}
	if err := c.groups.make(c.Nodes()); err != nil {
		return err
	}
	for _, folder := range hostFolders {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(c.folder, "log"), 0o755); err != nil {
		return err
	}
	if c.state.Owned {
		if err := c.watchOver(ctx); err != nil {
			return err
		}
	}
	pause := filepath.Join(c.folder, "pause")
	if err := buildStatic(ctx, "pause", pause); err != nil {
		return err
	}
	err := errors.Join(Image(PauseImage, pause, pause+".tar"), c.makeKeys())
	if err != nil {
		return err
	}
	c.api, err = newAPI(c.server(), c.pki())
	return err
}

// awaitNodes waits until every node is Ready.
func (c *Cluster) awaitNodes(ctx context.Context) error {
	return until(ctx, 200*time.Millisecond, "nodes aren't ready", func() (bool, error) {
		ready, err := c.api.nodesReady(ctx)
		for _, node := range c.Nodes() {
			if !ready[node] {
				return false, errors.Join(err, fmt.Errorf("%s isn't", node))
			}
		}
		return true, nil
	})
}

// awaitAccount waits for the account that pods run as unless they name another: without it none can be made.
func (c *Cluster) awaitAccount(ctx context.Context) error {
	return until(ctx, 200*time.Millisecond, "no default service account", func() (bool, error) {
		err := c.api.call(ctx, "GET", "/api/v1/namespaces/default/serviceaccounts/default", nil, nil)
		return err == nil, err
	})
}

// Open gives a cluster that another process has brought up.
//
// # Errors
// When the instance isn't up. `root` may be empty for DefaultRoot.
func Open(root string, instance int) (*Cluster, error) {
	root, err := rootFolder(root)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(root, strconv.Itoa(instance))
	s, err := readState(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !s.Up {
		return nil, fmt.Errorf("cluster %d isn't up (no sign of it in %s)", instance, folder)
	}
	if err != nil {
		return nil, err
	}
	c := &Cluster{folder: folder, network: network{instance: instance, nodes: s.Nodes}, state: s}
	if c.groups, err = findCgroups(c.network.name()); err != nil {
		return nil, err
	}
	c.api, err = newAPI(c.server(), c.pki())
	return c, err
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.configOf("admin") }

// Logs is the folder with a log of each process. It goes with the cluster.
func (c *Cluster) Logs() string { return filepath.Join(c.folder, "log") }

// Bin is the folder with kubectl, helm and the rest.
func (c *Cluster) Bin() string { return c.state.Bin }

// Range is every address of the cluster: nodes, services and pods.
func (c *Cluster) Range() netip.Prefix { return c.network.everything() }

// Control is the address at which the machine itself is to be reached from pods, as the API server is.
func (c *Cluster) Control() netip.Addr { return c.network.control() }

// Nodes are the nodes' names: node1, alone in zone-a, and node2 and so on in zone-b.
func (c *Cluster) Nodes() []string {
	names := make([]string, c.network.nodes)
	for i := range names {
		names[i] = nodeName(i + 1)
	}
	return names
}

// Command is one of the cluster's programs, such as kubectl or helm, as the administrator.
func (c *Cluster) Command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, c.program(program), arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return command
}

// Load puts images (OCI tars, see Image) on every node.
func (c *Cluster) Load(ctx context.Context, tars ...string) error {
	return together(c.network.nodes, func(i int) error { return c.loadOn(ctx, i+1, tars...) })
}

// number is a node's, by its name.
func (c *Cluster) number(node string) (int, error) {
	i := slices.Index(c.Nodes(), node)
	if i < 0 {
		return 0, fmt.Errorf("no node %q: there are %v", node, c.Nodes())
	}
	return i + 1, nil
}

// Cut drops every packet between a node, with its pods, and everything else. Pods on the node still reach each other.
func (c *Cluster) Cut(ctx context.Context, node string) error {
	i, err := c.number(node)
	if err != nil {
		return err
	}
	return c.network.cut(ctx, i)
}

// Heal takes a cut back. Without one it does nothing.
func (c *Cluster) Heal(ctx context.Context, node string) error {
	i, err := c.number(node)
	if err != nil {
		return err
	}
	return c.network.heal(ctx, i)
}

// Ready gives for each node whether the API server holds it to be ready.
func (c *Cluster) Ready(ctx context.Context) (map[string]bool, error) { return c.api.nodesReady(ctx) }

// Down ends the cluster and leaves nothing of it.
//
// # Errors
// When something couldn't be removed; what is left is tried again by the next Down or Up.
func (c *Cluster) Down() error {
	if c.lock == nil {
		return Down(filepath.Dir(c.folder), c.network.instance)
	}
	defer c.release()
	err := demolish(c.folder, c.network.instance)
	if err == nil && c.watchdog != nil {
		err = c.watchdog.dismiss()
		c.watchdog = nil
	}
	return err
}

// release gives the lock back, after which the cluster is on its own.
func (c *Cluster) release() {
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

// together does n things at once and gives all their errors.
func together(n int, do func(i int) error) error {
	failed := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { failed[i] = do(i) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// lockOf takes an instance's lock, or fails at once when another process has it.
func lockOf(root string, instance int) (*os.File, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(root, strconv.Itoa(instance)+".lock"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("cluster %d is in the hands of another process: %w", instance, errBusy)
	}
	return lock, err
}

// errBusy says that another process makes, owns or removes the instance.
var errBusy = errors.New("end that one first, or choose another instance")
