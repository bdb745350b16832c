package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.com/sidegrid/e2e/kube"
)

// TestPodsJoinByOneLabel: a CacheCluster and a label are all it takes; a session made at one pod is read at the others.
func TestPodsJoinByOneLabel(t *testing.T) {
	s := newSpace(t, "label")
	s.example("sessions/kubernetes.yaml")
	pods := s.settled("web", 3)
	for _, pod := range pods {
		injected(t, &pod)
		t.Logf("%s: the app started %s after the pod was created", pod.Metadata.Name, pod.AppStarted())
	}
	s.localitiesAreTheNodes(pods)
	on := map[string]bool{}
	for _, pod := range pods {
		on[pod.Spec.NodeName] = true
	}
	if len(on) != 3 {
		t.Errorf("the three pods are on %v", on)
	}
	// Two of the three nodes share a zone, so copies that were merely on two nodes would show.
	s.copiesAreApart(&pods[0])

	session, err := s.client.Login(s.ctx, pods[0].Status.PodIP, "ada")
	s.must(err)
	for _, pod := range pods {
		if user, err := s.client.Read(s.ctx, pod.Status.PodIP, session.Cookie); err != nil || user != "ada" {
			t.Errorf("%s knows %q: %v", pod.Metadata.Name, user, err)
		}
	}

	s.until(settleLimit, "the CacheCluster's status", func(ctx context.Context) error {
		cluster, err := s.cacheCluster(ctx, "web")
		if err != nil {
			return err
		}
		status := cluster.Status
		if cluster.Is("Ready") != "True" || status.Ready != "3/3" || len(status.Members) != 3 || status.Segments.UnderReplicated != 0 {
			return fmt.Errorf("status is %+v", status)
		}
		if len(status.Caches) != 1 || !status.Caches[0].Survives.Pod {
			return fmt.Errorf("caches are %+v", status.Caches)
		}
		return nil
	})
	if table := s.run("get", "cgrid"); !strings.Contains(table, "3/3") || !strings.Contains(table, "SURVIVES") {
		t.Errorf("kubectl shows: %s", table)
	}
}

// injected checks what the webhook must have added to a pod.
func injected(t *testing.T, pod *kube.Pod) {
	t.Helper()
	sidecar := pod.Sidecar()
	if sidecar == nil || sidecar.RestartPolicy != "Always" {
		t.Fatalf("%s has no native sidecar: %+v", pod.Metadata.Name, pod.Spec.InitContainers)
	}
	if url := pod.Spec.Containers[0].Value("SIDEGRID_URL"); url != "http://127.0.0.1:7080" {
		t.Errorf("%s: SIDEGRID_URL is %q", pod.Metadata.Name, url)
	}
	anti := pod.Spec.Affinity.PodAntiAffinity
	if anti == nil || len(anti.Preferred) != 1 || anti.Preferred[0].Term.TopologyKey != "kubernetes.io/hostname" ||
		anti.Preferred[0].Term.LabelSelector.MatchLabels["sidegrid.dev/cluster"] != "web" {
		t.Errorf("%s: anti-affinity is %+v", pod.Metadata.Name, anti)
	}
	if len(pod.Spec.Spread) != 1 || pod.Spec.Spread[0].TopologyKey != "topology.kubernetes.io/zone" {
		t.Errorf("%s: spread is %+v", pod.Metadata.Name, pod.Spec.Spread)
	}
	if pod.Metadata.Annotations["sidegrid.dev/injected"] == "" {
		t.Errorf("%s: annotations are %v", pod.Metadata.Name, pod.Metadata.Annotations)
	}
}

// localitiesAreTheNodes: each member's machine is its pod's node, its rack that node's zone, its site the region.
func (s *space) localitiesAreTheNodes(pods []kube.Pod) {
	s.t.Helper()
	nodes, err := s.nodes(s.ctx)
	s.must(err)
	state, err := s.client.Cluster(s.ctx, pods[0].Status.PodIP)
	s.must(err)
	for _, member := range state.View.Members {
		at := slices.IndexFunc(pods, func(p kube.Pod) bool { return p.Metadata.Name == member.Name })
		if at < 0 {
			s.t.Errorf("member %s is no pod", member.Name)
			continue
		}
		on := slices.IndexFunc(nodes, func(n kube.Node) bool { return n.Metadata.Name == pods[at].Spec.NodeName })
		labels := nodes[on].Metadata.Labels
		zone, region := labels["topology.kubernetes.io/zone"], labels["topology.kubernetes.io/region"]
		if zone == "" || region == "" {
			s.t.Errorf("node %s has no zone or region, so nothing is shown", nodes[on].Metadata.Name)
		}
		if member.Machine != pods[at].Spec.NodeName || member.Rack != zone || member.Site != region {
			s.t.Errorf("%s is on %s in %s of %s, and says %+v", member.Name, pods[at].Spec.NodeName, zone, region, member)
		}
	}
}

// TestUnlabelledPodIsLeftAlone: without the label nothing is added, also beside a CacheCluster.
func TestUnlabelledPodIsLeftAlone(t *testing.T) {
	s := newSpace(t, "unlabelled")
	s.example("sessions/kubernetes.yaml", "        sidegrid.dev/cluster: web # all that a pod needs\n", "")
	for _, pod := range s.ready("web", 3) {
		if len(pod.Spec.InitContainers) != 0 || pod.Spec.Containers[0].Value("SIDEGRID_URL") != "" || pod.Metadata.Annotations["sidegrid.dev/injected"] != "" {
			t.Errorf("%s was changed: %+v", pod.Metadata.Name, pod.Spec)
		}
		t.Logf("%s: the app started %s after the pod was created", pod.Metadata.Name, pod.AppStarted())
	}
}

// TestThreeZonesExample: with a copy in each zone that there is, no node and no zone is the only holder of an entry.
func TestThreeZonesExample(t *testing.T) {
	s := newSpace(t, "zones")
	s.example("three-zones/kubernetes.yaml")
	pods := s.settled("zones", 6)
	s.localitiesAreTheNodes(pods)
	s.until(settleLimit, "copies that outlive a pod, a node and a zone", func(ctx context.Context) error {
		cluster, err := s.cacheCluster(ctx, "zones")
		if err != nil {
			return err
		}
		for _, cache := range cluster.Status.Caches {
			if cache.Survives.Pod && cache.Survives.Node && cache.Survives.Zone {
				return nil
			}
		}
		return fmt.Errorf("caches are %+v", cluster.Status.Caches)
	})
}
