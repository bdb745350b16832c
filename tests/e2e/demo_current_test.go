package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoInTheCurrentCluster: `CLUSTER=current make demo` shows the same in the cluster that kubectl points at, and what
// it prints works. The operator is there already, as it may be.
func TestDemoInTheCurrentCluster(t *testing.T) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*endLimit)
		defer cancel()
		if err := shared.endNamespace(ctx, "demo"); err != nil {
			t.Errorf("the demo's namespace doesn't end: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), rolloutLimit)
	defer cancel()
	demo := exec.CommandContext(ctx, filepath.Join(shared.root, "deploy", "demo", "demo.sh"))
	demo.Env = append(os.Environ(), "CLUSTER=current", "DEMO_EXIT=1", "KUBECONFIG="+shared.kube.Config,
		"PATH="+shared.machine.Bin()+":"+os.Getenv("PATH"))
	out, err := demo.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "It works") {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "kubectl -n demo get cachecluster web") {
		t.Errorf("it tells another way to kubectl: %s", out)
	}
}
