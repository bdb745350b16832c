package manifests

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// parent is a chart with this one as a dependency that a condition turns on, as charts of charts have theirs.
const parent = `apiVersion: v2
name: platform
version: 1.0.0
dependencies:
  - {name: sidegrid, version: ">=0.1.0", condition: sidegrid.enabled}
`

// TestChartIsADependency: Helm hands the condition and `global` down, and what is installed is the same as without.
func TestChartIsADependency(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "Chart.yaml"), []byte(parent), 0o600); err != nil {
		t.Fatal(err)
	}
	chart := filepath.Join(root, "charts", "sidegrid")
	if err := os.CopyFS(filepath.Join(folder, "charts", "sidegrid"), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	within := func(arguments ...string) string {
		t.Helper()
		arguments = append([]string{"template", "sidegrid", folder, "--namespace=" + namespace, "--no-hooks", "--kube-version=1.35.0"}, arguments...)
		out, err := helm(t, arguments...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	alone, err := template(t)
	if err != nil {
		t.Fatal(err)
	}
	on := within("--set=sidegrid.enabled=true", "--set=global.registry=mirror.example")
	if one, other := objects(t, on), objects(t, alone); !reflect.DeepEqual(one, other) {
		t.Errorf("as a dependency it installs something else:\n%s\n%s", text(one), text(other))
	}
	if off := within("--set=sidegrid.enabled=false"); strings.Contains(off, "kind:") {
		t.Errorf("it installs something though its condition is false: %.300s", off)
	}
}

// TestOperatorOnItsNodesNetwork: where the API server doesn't reach pods; names are still those of the cluster, and a new
// replica needs no node beside the old ones.
func TestOperatorOnItsNodesNetwork(t *testing.T) {
	out, err := template(t, "--set=operator.hostNetwork=true,operator.webhookPort=10260")
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		"hostNetwork: true", "dnsPolicy: ClusterFirstWithHostNet", "maxUnavailable: 1, maxSurge: 0",
		"name: webhook, containerPort: 10260", `name: WEBHOOK_PORT, value: "10260"`, "name: webhook, port: 443, targetPort: webhook",
	} {
		if !strings.Contains(out, shown) {
			t.Errorf("%q is not shown", shown)
		}
	}
}
