package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const probeImage = "sidegrid.dev/probe:1"

// probes are two pods on different nodes, each with a native sidecar beside its container, and a service for the second.
const probes = `
{"apiVersion": "v1", "kind": "List", "items": [%s, %s,
 {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"},
  "spec": {"selector": {"app": "far"}, "ports": [{"port": 80, "targetPort": 8080}]}}]}`

const probe = `
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %[1]q, "labels": {"app": %[1]q}},
 "spec": {"nodeName": %[2]q, "terminationGracePeriodSeconds": 1,
  "initContainers": [{"name": "sidecar", "image": %[3]q, "args": ["8081"], "restartPolicy": "Always",
   "startupProbe": {"httpGet": {"port": 8081, "path": "/"}, "periodSeconds": 1, "failureThreshold": 30}}],
  "containers": [{"name": "main", "image": %[3]q, "args": ["8080"],
   "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}}]}}`

// folder makes a root for clusters with a short name, since the paths of sockets have little room.
func folder(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a cluster needs root")
	}
	root, err := os.MkdirTemp("", "sgk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	return root
}

// report is a writer into the test's log.
type report struct{ t *testing.T }

func (r report) Write(text []byte) (int, error) {
	r.t.Log(strings.TrimRight(string(text), "\n"))
	return len(text), nil
}

func TestClusterComesUpAndLeavesNothing(t *testing.T) {
	root := folder(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	const instance = maxInstances - 3
	before := look(t, instance, root)
	c, err := Up(ctx, Options{Root: root, Instance: instance, Owned: true, Log: report{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	if err := Down(root, instance); err == nil {
		t.Fatal("a stranger could take down a cluster that is in use")
	}
	out := &sniffer{end: func() {}}
	if device := wayOut(t); device != "" {
		out = sniff(t, device, c.Range())
	}
	within := sniff(t, c.network.name(), c.Range())

	near, far := startProbes(ctx, t, c)
	seesTheCluster(ctx, t, near, far)
	watch := startWatch()
	cutAndHeal(ctx, t, c, near, far)
	watch.say(report{t}, "cut and healed")

	within.end()
	out.end()
	if within.seen.Load() == 0 {
		t.Error("the sniffer is blind: it saw nothing on the bridge")
	}
	if n := out.seen.Load(); n != 0 {
		t.Errorf("%d packets of the cluster went to the outside", n)
	}
	// It must come down also with half of it dead.
	for _, p := range c.state.Processes {
		if p.Name == "containerd-node1" || p.Name == "kube-apiserver" || p.Name == "node2" {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	watch = startWatch()
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	watch.say(report{t}, "down")
	before.same(t, look(t, instance, root))
}

// startProbes gives the addresses of the two pods once they are ready.
func startProbes(ctx context.Context, t *testing.T, c *Cluster) (near, far string) {
	t.Helper()
	watch := startWatch()
	program := filepath.Join(c.folder, "probe")
	if err := buildStatic(ctx, "probe", program); err != nil {
		t.Fatal(err)
	}
	if err := Image(probeImage, program, program+".tar"); err != nil {
		t.Fatal(err)
	}
	if err := c.Load(ctx, program+".tar"); err != nil {
		t.Fatal(err)
	}
	watch.say(report{t}, "probe image loaded")
	watch = startWatch()
	apply := c.Command(ctx, "kubectl", "apply", "--filename", "-")
	apply.Stdin = strings.NewReader(fmt.Sprintf(probes,
		fmt.Sprintf(probe, "near", "node1", probeImage), fmt.Sprintf(probe, "far", "node2", probeImage)))
	if output, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	ready := c.Command(ctx, "kubectl", "wait", "--for=condition=Ready", "--timeout=60s", "pod/near", "pod/far")
	if output, err := ready.CombinedOutput(); err != nil {
		pods, _ := c.Command(ctx, "kubectl", "describe", "pods").CombinedOutput()
		t.Fatalf("%v: %s\n%s", err, output, pods)
	}
	watch.say(report{t}, "pods with native sidecars ready")
	address := func(name string) string {
		var pod struct{ Status struct{ PodIP string } }
		text, err := c.Command(ctx, "kubectl", "get", "pod", name, "--output", "json").Output()
		if err == nil {
			err = json.Unmarshal(text, &pod)
		}
		if err != nil || !c.network.pods().Contains(netip.MustParseAddr(pod.Status.PodIP)) {
			t.Fatalf("pod %s has the address %q: %v", name, pod.Status.PodIP, err)
		}
		return pod.Status.PodIP
	}
	return address("near"), address("far")
}

// ask fetches a page of the pod `near`.
func ask(ctx context.Context, near, page string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+near+":8080"+page, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return strings.TrimSpace(string(text)), err
}

// fetches says whether the pod `near` gets the word of a page.
func fetches(ctx context.Context, near, page string) (bool, error) {
	word, err := ask(ctx, near, "/fetch?url="+url.QueryEscape(page))
	return word == "ready", err
}

func seesTheCluster(ctx context.Context, t *testing.T, near, far string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var addresses string
	err := until(ctx, 200*time.Millisecond, "no DNS in a pod", func() (yes bool, err error) {
		addresses, err = ask(ctx, near, "/lookup?name=kubernetes.default.svc.cluster.local")
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(addresses, ".64.1") {
		t.Errorf("the API server's service is at %q", addresses)
	}
	if _, err := ask(ctx, near, "/lookup?name=example.com"); err == nil {
		t.Error("a pod can look up names of the outside")
	}
	// By its address, by its sidecar, and by its service's short name.
	for _, page := range []string{"http://" + far + ":8080", "http://" + far + ":8081", "http://far"} {
		err := until(ctx, 200*time.Millisecond, "a pod doesn't get "+page, func() (bool, error) { return fetches(ctx, near, page) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func cutAndHeal(ctx context.Context, t *testing.T, c *Cluster, near, far string) {
	t.Helper()
	page := "http://" + far + ":8080"
	if err := c.Cut(ctx, "node2"); err != nil {
		t.Fatal(err)
	}
	if yes, _ := fetches(ctx, near, page); yes {
		t.Error("a pod of a node that is cut off answers")
	}
	becomes := func(want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err := until(ctx, 300*time.Millisecond, fmt.Sprintf("node2's readiness isn't %t", want), func() (bool, error) {
			ready, err := c.Ready(ctx)
			return err == nil && ready["node2"] == want, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	becomes(false)
	for range 2 { // the second finds nothing to do
		if err := c.Heal(ctx, "node2"); err != nil {
			t.Fatal(err)
		}
	}
	becomes(true)
	err := until(ctx, 200*time.Millisecond, "healed, but not reached", func() (bool, error) { return fetches(ctx, near, page) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestKilledUpLeavesNothingAfterDown(t *testing.T) {
	root := folder(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if _, err := Build(ctx, report{t}); err != nil {
		t.Fatal(err)
	}
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(t.TempDir(), "tool")
	if output, err := exec.CommandContext(ctx, "go", "build", "-C", source, "-o", tool, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	const instance = maxInstances - 1
	before := look(t, instance, root)
	ways := []struct {
		after  string
		hold   bool
		remove func() error
	}{
		{"network, control groups and keys", false, func() error { return Sweep(root) }},
		{"API server, and containerd on each node", false, func() error { return Down(root, instance) }},
		{"API server, and containerd on each node", true, func() error {
			ctx, cancel := context.WithTimeout(ctx, demolition)
			defer cancel()
			return until(ctx, 100*time.Millisecond, "the watchdog doesn't clean up", func() (bool, error) {
				left := commands(root)
				return len(left) == 0, fmt.Errorf("%d processes left", len(left))
			})
		}},
	}
	for _, way := range ways {
		arguments := []string{"--dir", root, "--instance", fmt.Sprint(instance), fmt.Sprintf("--hold=%t", way.hold), "up"}
		killedUp(ctx, t, way.after, tool, arguments...)
		if now := look(t, instance, root); len(now) <= len(before) {
			t.Error("nothing was made before the kill: the test shows nothing")
		}
		if err := way.remove(); err != nil {
			t.Error(err)
		}
		before.same(t, look(t, instance, root))
	}
}

// killedUp runs a command and kills it once it has said a word.
func killedUp(ctx context.Context, t *testing.T, word, tool string, arguments ...string) {
	t.Helper()
	up := exec.CommandContext(ctx, tool, arguments...)
	said, err := up.StderrPipe()
	if err == nil {
		err = up.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), word) {
	}
	if err := up.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = up.Wait() // killed, as was meant
}
