package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"example.com/sidegrid/e2e/kube"
	"example.com/sidegrid/e2e/processes"
)

// TestCopiesAreApart: with two of three pods on one node, and two zones, no key has both of its copies on that node.
func TestCopiesAreApart(t *testing.T) {
	w := &web{space: newSpace(t, "apart")}
	nodes, err := w.nodes(w.ctx)
	w.must(err)
	// The first two pods on one node of a zone of its own, the third anywhere else.
	zones := map[string]int{}
	for _, node := range nodes {
		zones[node.Metadata.Labels["topology.kubernetes.io/zone"]]++
	}
	alone := ""
	for _, node := range nodes {
		if zones[node.Metadata.Labels["topology.kubernetes.io/zone"]] == 1 {
			alone = node.Metadata.Name
		}
	}
	if len(zones) != 2 || alone == "" {
		t.Fatalf("the test needs two zones of which one has one node; there are %v", zones)
	}
	pinned := "      automountServiceAccountToken: false\n"
	pin := func(operator string) string {
		return pinned + fmt.Sprintf(`      affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: %s, values: [%s]}]}]}}}
      topologySpreadConstraints: [{maxSkew: 3, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]
`, operator, alone)
	}
	w.example("sessions/kubernetes.yaml", pinned, pin("In"), "replicas: 3", "replicas: 2")
	w.ready("web", 2)
	w.example("sessions/kubernetes.yaml", pinned, pin("NotIn"), "replicas: 3", "replicas: 1", "name: web\nspec:\n  replicas", "name: elsewhere\nspec:\n  replicas")
	w.use(w.settled("web", 3))
	together := 0
	for _, pod := range w.pods {
		if pod.Spec.NodeName == alone {
			together++
		}
	}
	if together != 2 {
		t.Fatalf("%d pods are on %s", together, alone)
	}
	w.copiesAreApart(&w.pods[0])
}

// copiesAreApart asks in a pod for the copies of 100 keys: there are two of each, on different nodes in different zones.
func (s *space) copiesAreApart(pod *kube.Pod) {
	s.t.Helper()
	inside := s.process(pod, processes.App)
	for i := range 100 {
		copies := s.copies(inside, fmt.Sprintf("key-%d", i))
		if len(copies) != 2 || copies[0].Machine == copies[1].Machine || copies[0].Rack == copies[1].Rack {
			s.t.Fatalf("key-%d has its copies at %+v", i, copies)
		}
	}
}

// place is where a copy is.
type place struct {
	Member  string `json:"member"`
	Rack    string `json:"rack"`
	Machine string `json:"machine"`
}

// copies asks the sidecar, from within its pod, where the copies of a key are.
func (s *space) copies(pid int, key string) []place {
	s.t.Helper()
	out, err := insider(pid).body(s.ctx, "/v1/cluster/explain?cache=sessions&key="+key)
	s.must(err)
	var explained struct {
		Copies []place `json:"copies"`
	}
	if err := json.Unmarshal([]byte(out), &explained); err != nil || len(explained.Copies) == 0 {
		s.t.Fatalf("explain says %s: %v", out, err)
	}
	return explained.Copies
}
