package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/e2e/app"
	"example.com/sidegrid/e2e/kube"
)

// space is a namespace that one test has for itself.
type space struct {
	*world
	t    *testing.T
	ctx  context.Context
	name string
	// announced are texts of warnings that the test brings about.
	announced []string
	// cutOff is a node from which operators can't reach anything for a while: what they say of it is not looked at.
	cutOff string
	began  time.Time
}

// Warnings that come with faults and with coming and going; any other in a log fails the test.
var (
	joinWarnings = []string{"can't join yet"}
	// An API server that answers late, as on a machine that is busy with other things.
	slowWarnings = []string{"no answer within", "was not answered in time", "can't be asked", "can't be looked after",
		"the registry can't be reached"}
	faultWarnings    = []string{"is suspected", "the lease ran out", "superseded", "the member died", "an exclusion can't go on"}
	registryWarnings = []string{"the registry can't be reached", "registry https://"}
	lostWarnings     = []string{"the registry's document is missing", "is missing or was put back", "put the document back"}
)

// newSpace makes a namespace in which pods must be restricted ones, and ends it with the test: kept first if the test
// failed, then deleted, which must take the CacheClusters in it along.
func newSpace(t *testing.T, name string, announced ...[]string) *space {
	t.Helper()
	s := &space{
		world: shared, t: t, ctx: t.Context(), name: "e2e-" + name,
		announced: slices.Concat(append(announced, joinWarnings, slowWarnings)...), began: time.Now(),
	}
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`, s.name)
	t.Cleanup(s.end)
	s.must(s.kube.Apply(s.ctx, "", manifest))
	return s
}

func (s *space) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*endLimit)
	defer cancel()
	if !s.t.Failed() {
		s.checkLogs(ctx)
	}
	if s.t.Failed() {
		folder := filepath.Join(s.kept, s.t.Name())
		if err := s.kube.Keep(folder, s.name, operatorNamespace); err != nil {
			s.t.Errorf("nothing is kept: %v", err)
		} else {
			s.t.Logf("logs, events and objects are kept in %s", folder)
		}
	}
	if err := s.endNamespace(ctx, s.name); err != nil {
		s.t.Errorf("the namespace doesn't end: %v", err)
	}
}

// endNamespace deletes one, if it is there, and waits until it is gone.
func (w *world) endNamespace(ctx context.Context, name string) error {
	_, err := w.kube.RunFor(ctx, "", "delete", "namespace", name, "--ignore-not-found", fmt.Sprintf("--timeout=%ds", int(endLimit.Seconds())))
	return err
}

// checkLogs fails the test on a warning that it didn't announce, in the logs of pods that are there at its end.
func (s *space) checkLogs(ctx context.Context) {
	since := "--since-time=" + s.began.UTC().Format(time.RFC3339)
	for _, namespace := range []string{s.name, operatorNamespace} {
		var pods kube.List[kube.Pod]
		if err := s.kube.Get(ctx, &pods, "pods", "--namespace="+namespace); err != nil {
			s.t.Error(err)
			return
		}
		for _, pod := range pods.Items {
			container := "sidegrid"
			if namespace == operatorNamespace && pod.Spec.NodeName == s.cutOff {
				continue
			}
			if namespace == operatorNamespace {
				container = "operator"
			} else if pod.SidecarStatus().Name == "" {
				continue
			}
			log, err := s.kube.Run(ctx, "", "logs", "--namespace="+namespace, pod.Metadata.Name, "--container="+container, since)
			if err != nil && pod.Status.Phase == "Running" {
				s.t.Error(err)
			}
			for _, line := range kube.Complaints(string(log), s.announced) {
				s.t.Errorf("%s/%s warns: %s", namespace, pod.Metadata.Name, line)
			}
		}
	}
}

func (s *space) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a condition, and ends the test if it doesn't come.
func (s *space) until(limit time.Duration, what string, look func(context.Context) error) {
	s.t.Helper()
	s.must(kube.Until(s.ctx, limit, what, look))
}

// example applies a file of deploy/examples, with texts replaced (old, new, …), each of which must be in it.
func (s *space) example(path string, replacements ...string) {
	s.t.Helper()
	manifest := s.exampleText(path, replacements...)
	s.must(s.kube.Apply(s.ctx, s.name, manifest))
}

func (s *space) exampleText(path string, replacements ...string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.root, "deploy", "examples", path))
	s.must(err)
	manifest := string(text)
	for i := 0; i+1 < len(replacements); i += 2 {
		if !strings.Contains(manifest, replacements[i]) {
			s.t.Fatalf("%s doesn't hold %q", path, replacements[i])
		}
		manifest = strings.ReplaceAll(manifest, replacements[i], replacements[i+1])
	}
	return manifest
}

// run calls kubectl in the namespace.
func (s *space) run(arguments ...string) string {
	s.t.Helper()
	out, err := s.kube.Run(s.ctx, "", append(arguments, "--namespace="+s.name)...)
	s.must(err)
	return string(out)
}

// pods are those with a label `app=NAME` that aren't on their way out, by name.
func (s *space) pods(ctx context.Context, name string) ([]kube.Pod, error) {
	var pods kube.List[kube.Pod]
	if err := s.kube.Get(ctx, &pods, "pods", "--namespace="+s.name, "--selector=app="+name); err != nil {
		return nil, err
	}
	staying := slices.DeleteFunc(pods.Items, func(p kube.Pod) bool { return p.Metadata.DeletionTimestamp != nil })
	slices.SortFunc(staying, func(a, b kube.Pod) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	return staying, nil
}

// ready waits until there are exactly `count` pods and all are ready, and gives them.
func (s *space) ready(name string, count int) (pods []kube.Pod) {
	s.t.Helper()
	s.until(startLimit, fmt.Sprintf("%d ready pods of %s", count, name), func(ctx context.Context) (err error) {
		if pods, err = s.pods(ctx, name); err != nil {
			return err
		}
		for _, pod := range pods {
			if !pod.Ready() {
				return fmt.Errorf("%s is not ready (%s)", pod.Metadata.Name, pod.Status.Phase)
			}
		}
		if len(pods) != count {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
	return pods
}

// addresses are the pods' addresses.
func addresses(pods []kube.Pod) []string {
	var all []string
	for _, pod := range pods {
		all = append(all, pod.Status.PodIP)
	}
	return all
}

// settled waits until each of the `count` pods sees one and the same view of exactly these pods, with all copies there.
func (s *space) settled(name string, count int) []kube.Pod {
	s.t.Helper()
	pods := s.ready(name, count)
	s.until(settleLimit, fmt.Sprintf("%d members with all copies", count), func(ctx context.Context) error {
		var err error
		// A pod may have been replaced since.
		if pods, err = s.pods(ctx, name); err != nil {
			return err
		}
		if len(pods) != count {
			return fmt.Errorf("there are %d pods", len(pods))
		}
		return s.agree(ctx, pods)
	})
	return pods
}

// agree says in what the pods' members don't agree, or aren't complete.
func (s *space) agree(ctx context.Context, pods []kube.Pod) error {
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Metadata.Name)
	}
	view := uint64(0)
	for _, pod := range pods {
		state, err := s.client.Cluster(ctx, pod.Status.PodIP)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", pod.Metadata.Name, err)
		case state.View == nil || !state.Member.Ready:
			return fmt.Errorf("%s is %s: %s", pod.Metadata.Name, state.Member.Participation, state.Member.Reason)
		case state.Health.UnderReplicated > 0:
			return fmt.Errorf("%s counts %d groups with copies missing", pod.Metadata.Name, state.Health.UnderReplicated)
		case view != 0 && state.View.Number != view:
			return fmt.Errorf("%s has view %d and another one has %d", pod.Metadata.Name, state.View.Number, view)
		}
		view = state.View.Number
		if members := memberNames(state); !slices.Equal(members, names) {
			return fmt.Errorf("the view of %s has %v, the pods are %v", pod.Metadata.Name, members, names)
		}
	}
	return nil
}

// memberNames are the names of the view's members, sorted.
func memberNames(state *app.Cluster) []string {
	var names []string
	if state.View != nil {
		for _, member := range state.View.Members {
			names = append(names, member.Name)
		}
	}
	slices.Sort(names)
	return names
}

// cacheCluster reads one.
func (s *space) cacheCluster(ctx context.Context, name string) (*kube.CacheCluster, error) {
	cluster := new(kube.CacheCluster)
	return cluster, s.kube.Get(ctx, cluster, "cacheclusters.sidegrid.dev", name, "--namespace="+s.name)
}

// refused applies a manifest that must be refused with a message that holds all the words.
func (s *space) refused(what, manifest string, words ...string) {
	s.t.Helper()
	_, err := s.kube.Run(s.ctx, manifest, "create", "--dry-run=server", "--filename=-", "--namespace="+s.name)
	s.isRefusal(what, err, words...)
}

// isRefusal looks whether a call was refused with a message that holds all the words.
func (s *space) isRefusal(what string, err error, words ...string) {
	s.t.Helper()
	if err == nil {
		s.t.Errorf("%s: not refused", what)
		return
	}
	var failed *kube.Error
	if !errors.As(err, &failed) {
		s.t.Errorf("%s: %v", what, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(failed.Said, word) {
			s.t.Errorf("%s: the refusal doesn't name %q: %s", what, word, failed.Said)
		}
	}
}
