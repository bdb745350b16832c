package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/sidegrid/e2e/kube"
)

// TestDrainOfANodeLosesNothing: `kubectl drain` gets a node empty within its time, the eviction guard lets one member
// go at once, and no acknowledged session is lost.
func TestDrainOfANodeLosesNothing(t *testing.T) {
	w := startWeb(newSpace(t, "drain", faultWarnings), sized(1000, 20000))
	w.guarded(2)
	nodes := []string{w.pods[0].Spec.NodeName}
	if long() {
		nodes = nil
		all, err := w.nodes(w.ctx)
		w.must(err)
		for _, node := range all {
			nodes = append(nodes, node.Metadata.Name)
		}
	}
	for _, node := range nodes {
		w.drained(node)
	}
	w.guarded(2)
}

// drained drains a node and lets pods come to it again.
func (w *web) drained(node string) {
	w.t.Helper()
	uncordon := func(ctx context.Context) {
		if _, err := w.kube.Run(ctx, "", "uncordon", node); err != nil {
			w.t.Error(err)
		}
	}
	// Not the test's context: that one has ended by then.
	w.t.Cleanup(func() { uncordon(context.Background()) })
	w.during("a drain of "+node, orderly, 3, func([]kube.Pod) {
		ctx, cancel := context.WithTimeout(w.ctx, rolloutLimit)
		defer cancel()
		_, err := w.kube.RunFor(ctx, "", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data",
			fmt.Sprintf("--timeout=%ds", int(rolloutLimit.Seconds())))
		w.must(err)
	})
	for _, pod := range w.pods {
		if pod.Spec.NodeName == node {
			w.t.Errorf("%s is on the drained node", pod.Metadata.Name)
		}
	}
	uncordon(w.ctx)
}

// guarded waits until a budget of the operator's keeps this many of the members.
func (w *web) guarded(least int) {
	w.t.Helper()
	w.until(settleLimit, "the eviction guard", func(ctx context.Context) error {
		var budgets kube.List[struct {
			Metadata kube.Metadata `json:"metadata"`
			Spec     struct {
				MinAvailable any `json:"minAvailable"`
			} `json:"spec"`
		}]
		if err := w.kube.Get(ctx, &budgets, "poddisruptionbudgets", "--namespace="+w.name); err != nil {
			return err
		}
		if len(budgets.Items) != 1 {
			return fmt.Errorf("there are %d budgets", len(budgets.Items))
		}
		if kept, isNumber := budgets.Items[0].Spec.MinAvailable.(float64); !isNumber || int(kept) != least {
			return fmt.Errorf("minAvailable is %v, not the number %d", budgets.Items[0].Spec.MinAvailable, least)
		}
		return nil
	})
}

// TestGuardKeepsMoreThanOneFromGoing: while one member is away, the eviction of a second is refused.
func TestGuardKeepsMoreThanOneFromGoing(t *testing.T) {
	w := startWeb(newSpace(t, "guard", faultWarnings), 10)
	w.guarded(2)
	nodes, err := w.nodes(w.ctx)
	w.must(err)
	t.Cleanup(func() {
		for _, node := range nodes {
			if _, err := w.kube.Run(context.Background(), "", "uncordon", node.Metadata.Name); err != nil {
				t.Error(err)
			}
		}
	})
	// With nowhere to go, an evicted pod's successor stays pending and the member stays away.
	for _, node := range nodes {
		w.run("cordon", node.Metadata.Name)
	}
	w.until(settleLimit, "the first eviction", func(ctx context.Context) error { return w.evict(ctx, &w.pods[0]) })
	w.until(settleLimit, "two pods that are ready", func(ctx context.Context) error {
		pods, err := w.space.pods(ctx, "web")
		if err != nil {
			return err
		}
		ready := 0
		for _, pod := range pods {
			if pod.Ready() {
				ready++
			}
		}
		if ready != 2 {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
	err = w.evict(w.ctx, &w.pods[1])
	var failed *kube.Error
	if !errors.As(err, &failed) || !contains(failed.Said, "disruption budget") {
		t.Errorf("the second eviction was answered: %v", err)
	}
}

// TestDrainTakesAsLongAsItsReplacements: of a node with several members, none of which waits for a number that lags behind.
func TestDrainTakesAsLongAsItsReplacements(t *testing.T) {
	w := startWeb(newSpace(t, "drain-many", faultWarnings), 10)
	w.run("scale", "deployment/web", "--replicas=9")
	w.use(w.settled("web", 9))
	w.guarded(8)
	on := map[string]int{}
	for _, pod := range w.pods {
		on[pod.Spec.NodeName]++
	}
	node := w.pods[0].Spec.NodeName
	t.Cleanup(func() {
		if _, err := w.kube.Run(context.Background(), "", "uncordon", node); err != nil {
			t.Error(err)
		}
	})
	// A minute for each member but the first was what it took.
	if on[node] < 2 {
		t.Fatalf("%s has %d members: nothing would be shown", node, on[node])
	}
	limit := time.Duration(on[node]-1) * 50 * time.Second
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	_, err := w.kube.RunFor(ctx, "", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", fmt.Sprintf("--timeout=%ds", int(limit.Seconds())))
	w.must(err)
	w.run("uncordon", node)
	w.run("scale", "deployment/web", "--replicas=3")
	w.guarded(2)
}

// TestCrashingAppsHoldNoDrainUp: their pods never are ready, and their members are well.
func TestCrashingAppsHoldNoDrainUp(t *testing.T) {
	s := newSpace(t, "drain-crashing", faultWarnings)
	s.example("sessions/kubernetes.yaml", "          image: sidegrid.dev/sessions:0.1.0\n",
		"          image: sidegrid.dev/sessions:0.1.0\n          args: [no-such-command]\n")
	var node string
	s.until(startLimit, "three members", func(ctx context.Context) error {
		cluster, err := s.cacheCluster(ctx, "web")
		if err != nil {
			return err
		}
		members := 0
		for _, member := range cluster.Status.Members {
			if member.State == "Member" {
				members, node = members+1, member.Node
			}
		}
		if members != 3 {
			return fmt.Errorf("there are %d", members)
		}
		return nil
	})
	t.Cleanup(func() {
		if _, err := s.kube.Run(context.Background(), "", "uncordon", node); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(s.ctx, rolloutLimit)
	defer cancel()
	_, err := s.kube.RunFor(ctx, "", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", fmt.Sprintf("--timeout=%ds", int(rolloutLimit.Seconds())))
	s.must(err)
}

// evict asks for an eviction, as a drain does.
func (w *web) evict(ctx context.Context, pod *kube.Pod) error {
	eviction := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod.Metadata.Name, w.name)
	_, err := w.kube.Run(ctx, eviction, "create", "--raw",
		fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", w.name, pod.Metadata.Name), "--filename=-")
	return err
}
