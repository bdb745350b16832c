package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// PauseImage is the image of every pod's first process.
const PauseImage = "sidegrid.dev/pause:1"

// hostFolders are those that a node's programs use by a fixed name. Each node sees its own there, in a mount namespace
// of its own, so that nodes don't meet in them and nothing is left in the machine's.
var hostFolders = []string{"/var/lib/kubelet", "/var/lib/cni", "/var/log", "/run/containerd"}

// zone is where a node is said to be: the first is alone in its zone, the others share one.
func zone(node int) string {
	if node == 1 {
		return "zone-a"
	}
	return "zone-b"
}

// nodeName is a node's name in Kubernetes, and its folder's.
func nodeName(node int) string { return fmt.Sprintf("node%d", node) }

func (c *Cluster) nodeFolder(node int) string { return filepath.Join(c.folder, nodeName(node)) }
func (c *Cluster) socket(node int) string {
	return filepath.Join(c.nodeFolder(node), "containerd.sock")
}

// containerdConfig keeps everything of a node's containerd in the node's folder.
func (c *Cluster) containerdConfig(node int) string {
	folder := c.nodeFolder(node)
	return fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/containerd.sock"
[ttrpc]
  address = "%[1]s/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[2]s"
  # The right to lower a score may be missing in a container.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
`, folder, PauseImage)
}

// networkConfig gives pods a bridge of the node's own. Addresses are not translated: pods, nodes and the API server
// see each other's own, and nothing else is within reach.
func (c *Cluster) networkConfig(node int) ([]byte, error) {
	type object = map[string]any
	return json.Marshal(object{"cniVersion": "0.4.0", "name": "pods", "plugins": []object{
		{
			"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
			"ipam": object{
				"type": "host-local", "dataDir": filepath.Join(c.nodeFolder(node), "addresses"),
				"ranges": [][]object{{{"subnet": c.network.nodePods(node).String()}}},
				"routes": []object{{"dst": "0.0.0.0/0"}},
			},
		},
		{"type": "portmap", "capabilities": object{"portMappings": true}},
	}})
}

func (c *Cluster) kubeletConfig(node int) ([]byte, error) {
	folder := c.nodeFolder(node)
	type object = map[string]any
	return json.Marshal(object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": "0.0.0.0", "healthzBindAddress": "127.0.0.1",
		"authentication": object{
			"anonymous": object{"enabled": false}, "webhook": object{"enabled": true},
			"x509": object{"clientCAFile": filepath.Join(c.pki(), "ca.crt")},
		},
		"authorization": object{"mode": "Webhook"},
		"cgroupDriver":  "cgroupfs", "cgroupRoot": c.groups.node(nodeName(node)), "failCgroupV1": false,
		"enforceNodeAllocatable": []string{}, "failSwapOn": false, "oomScoreAdj": 0,
		"containerRuntimeEndpoint": "unix://" + c.socket(node),
		"clusterDNS":               []string{c.network.dns().String()}, "clusterDomain": "cluster.local",
		"volumePluginDir": filepath.Join(folder, "plugins"), "podLogsDir": filepath.Join(folder, "pods"),
		// The disk is everybody's: how full it is says nothing of the test.
		"imageGCHighThresholdPercent": 100, "evictionHard": object{"memory.available": "100Mi"},
		"syncFrequency": "10s", "nodeStatusUpdateFrequency": "4s", "nodeLeaseDurationSeconds": 20,
	})
}

// prepareNode writes a node's files.
func (c *Cluster) prepareNode(node int) error {
	folder := c.nodeFolder(node)
	folders := []string{folder, filepath.Join(folder, "cni"), filepath.Join(folder, "kubelet")}
	for _, host := range hostFolders {
		folders = append(folders, filepath.Join(folder, "host", host))
	}
	for _, f := range folders {
		if err := os.MkdirAll(f, 0o755); err != nil {
			return err
		}
	}
	kubelet, err := c.kubeletConfig(node)
	if err != nil {
		return err
	}
	pods, err := c.networkConfig(node)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(folder, "containerd.toml"), []byte(c.containerdConfig(node)), 0o644),
		os.WriteFile(filepath.Join(folder, "kubelet.json"), kubelet, 0o644),
		os.WriteFile(filepath.Join(folder, "cni", "10-pods.conflist"), pods, 0o644),
	)
}

// startNode starts what a node needs before it is told of the API server: a process that holds its namespaces,
// containerd, and the image of every pod's first process. It gives the words that put a command into the node.
func (c *Cluster) startNode(ctx context.Context, s starter, node int) ([]string, error) {
	if err := c.prepareNode(node); err != nil {
		return nil, err
	}
	folder := c.nodeFolder(node)
	var mounts strings.Builder
	for _, host := range hostFolders {
		fmt.Fprintf(&mounts, "mount --bind '%s' '%s' && ", filepath.Join(folder, "host", host), host)
	}
	pause := filepath.Join(c.folder, "pause")
	holder, err := s.start(nodeName(node), "nsenter", "--net="+c.network.namespacePath(node),
		"unshare", "--mount", "--propagation", "private", "sh", "-c", mounts.String()+"exec "+pause)
	if err != nil {
		return nil, err
	}
	pid := strconv.Itoa(holder.PID)
	err = until(ctx, 20*time.Millisecond, nodeName(node)+" has no namespaces", func() (bool, error) {
		program, err := os.Readlink("/proc/" + pid + "/exe")
		return program == pause, err
	})
	if err != nil {
		return nil, err
	}
	enter := []string{"nsenter", "--target", pid, "--net", "--mount"}
	_, err = s.start("containerd-"+nodeName(node), append(enter, "containerd", "--config", filepath.Join(folder, "containerd.toml"))...)
	if err != nil {
		return nil, err
	}
	err = until(ctx, 50*time.Millisecond, "containerd of "+nodeName(node)+" doesn't answer", func() (bool, error) {
		_, err := run(ctx, "ctr", "--address", c.socket(node), "version")
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	return enter, c.loadOn(ctx, node, filepath.Join(c.folder, "pause.tar"))
}

// joinNode starts kubelet and kube-proxy. The API server must answer by now: they are slow to ask again.
func (c *Cluster) joinNode(s starter, node int, enter []string) error {
	name, folder := nodeName(node), c.nodeFolder(node)
	_, err := s.start("kubelet-"+name, append(append(enter, c.program("kubelet")), flags(
		fmt.Sprintf("--config %s/kubelet.json --kubeconfig %s", folder, c.configOf(name)),
		fmt.Sprintf("--hostname-override %s --node-ip %s", name, c.network.nodeAddress(node)),
		fmt.Sprintf("--root-dir %[1]s/kubelet --cert-dir %[1]s/kubelet/pki", folder),
		"--node-labels topology.kubernetes.io/region=r1,topology.kubernetes.io/zone="+zone(node),
	)...)...)
	if err != nil {
		return err
	}
	_, err = s.start("kube-proxy-"+name, append(append(enter, c.program("kube-proxy")), flags(
		fmt.Sprintf("--kubeconfig %s --hostname-override %s", c.configOf("kube-proxy"), name),
		"--proxy-mode nftables --cluster-cidr "+c.network.pods().String(),
		// These limits are the whole machine's.
		"--conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0",
		"--healthz-bind-address 127.0.0.1:10256 --metrics-bind-address 127.0.0.1:10249",
	)...)...)
	return err
}

// loadOn imports image tars into a node's containerd, under Kubernetes' own namespace.
func (c *Cluster) loadOn(ctx context.Context, node int, tars ...string) error {
	for _, path := range tars {
		if _, err := run(ctx, "ctr", "--address", c.socket(node), "--namespace", "k8s.io", "images", "import", path); err != nil {
			return fmt.Errorf("can't load %s on %s: %w", path, nodeName(node), err)
		}
	}
	return nil
}
