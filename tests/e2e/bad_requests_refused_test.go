package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// cacheCluster is a manifest of one with this spec (JSON).
func cacheCluster(name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"sidegrid.dev/v1alpha1","kind":"CacheCluster","metadata":{"name":%q},"spec":%s}`, name, spec)
}

// withCache is a spec with one cache.
func withCache(cache string) string { return `{"caches":{"c":` + cache + `}}` }

// TestBadCacheClustersAreRefused: by the schema, with the field in the message, before anything acts on them.
func TestBadCacheClustersAreRefused(t *testing.T) {
	s := newSpace(t, "bad-clusters")
	cases := []struct{ what, name, spec, field string }{
		{"no cache", "x", `{"caches":{}}`, "caches"},
		{"no caches at all", "x", `{}`, "caches"},
		{"too long a name", strings.Repeat("x", 60), withCache(`{}`), "name"},
		{"a strange cache name", "x", `{"caches":{"a b":{}}}`, "caches"},
		{"no owner", "x", withCache(`{"owners":0}`), "owners"},
		{"too many owners", "x", withCache(`{"owners":65}`), "owners"},
		{"owners of a replicated cache", "x", withCache(`{"mode":"replicated","owners":2}`), "owners"},
		{"an unknown mode", "x", withCache(`{"mode":"scattered"}`), "mode"},
		{"a bad time to live", "x", withCache(`{"ttl":"soon"}`), "such as 30m"},
		{"bad bytes", "x", withCache(`{"maxBytes":"many"}`), "maxBytes"},
		{"a time without a unit", "x", withCache(`{"ttl":30}`), "ttl"},
		{"bytes of thousandths", "x", withCache(`{"maxBytes":"64m"}`), "maxBytes"},
		{"memory in a unit that Kubernetes lacks", "x", `{"caches":{"c":{}},"sidecar":{"resources":{"limits":{"memory":"512MB"}}}}`, "spec.sidecar.resources.limits[memory]"},
		{"a request above its limit", "x", `{"caches":{"c":{}},"sidecar":{"resources":{"requests":{"memory":"512Mi"},"limits":{"memory":"256Mi"}}}}`, "limits.memory"},
		{"a resource that isn't one", "x", `{"caches":{"c":{}},"sidecar":{"resources":{"requests":{"memroy":"512Mi"}}}}`, "spec.sidecar.resources.requests"},
		{"root", "x", `{"caches":{"c":{}},"sidecar":{"runAsUser":0}}`, "runAsUser"},
		{"an unknown word for full", "x", withCache(`{"maxEntries":1,"whenFull":"explode"}`), "whenFull"},
		{"one port for two", "x", `{"caches":{"c":{}},"network":{"dataPort":7080}}`, "dataPort"},
		{"port 0", "x", `{"caches":{"c":{}},"network":{"dataPort":0}}`, "dataPort"},
		{"a port past the last", "x", `{"caches":{"c":{}},"network":{"failureDetectionPort":70000}}`, "failureDetectionPort"},
		{"an unknown log level", "x", `{"caches":{"c":{}},"sidecar":{"logLevel":"loud"}}`, "logLevel"},
		{"an unknown pull policy", "x", `{"caches":{"c":{}},"sidecar":{"imagePullPolicy":"Maybe"}}`, "imagePullPolicy"},
		{"an unknown anti-affinity", "x", `{"caches":{"c":{}},"topology":{"antiAffinity":"strong"}}`, "antiAffinity"},
		{"a rotation of no days", "x", `{"caches":{"c":{}},"tls":{"rotationIntervalDays":0}}`, "rotationIntervalDays"},
		{"an unknown field", "x", `{"caches":{"c":{}},"cache":{}}`, "cache"},
	}
	for _, one := range cases {
		s.refused(one.what, cacheCluster(one.name, one.spec), one.field)
	}
	// What is right is taken, or the cases above would show nothing.
	good := cacheCluster("good", withCache(`{"mode":"distributed","owners":3,"ttl":"30m","maxBytes":"64MiB","whenFull":"reject"}`))
	s.must(s.kube.Apply(s.ctx, s.name, good))
	for _, cache := range []string{`{"ttl":"1h30m","maxBytes":"64Mi"}`, `{"maxBytes":67108864}`, `{"maxBytes":"1.5Gi"}`} {
		_, err := s.kube.Run(s.ctx, cacheCluster("also-good", withCache(cache)), "create", "--dry-run=server", "--filename=-", "--namespace="+s.name)
		s.must(err)
	}

	// The grid can't change what is already spread over members.
	for what, spec := range map[string]string{
		"a change of owners":  withCache(`{"mode":"distributed","owners":2,"ttl":"30m"}`),
		"a change of mode":    withCache(`{"mode":"replicated"}`),
		"another cache":       `{"caches":{"c":{"owners":3},"d":{}}}`,
		"the cache's removal": `{"caches":{"d":{}}}`,
	} {
		// A patch of the whole spec, for it can't meet the operator's writes of the status as a replacement can.
		patch := fmt.Sprintf(`[{"op":"replace","path":"/spec","value":%s}]`, spec)
		_, err := s.kube.Run(s.ctx, "", "patch", "cacheclusters.sidegrid.dev", "good", "--type=json", "--patch="+patch,
			"--dry-run=server", "--namespace="+s.name)
		s.isRefusal(what, err, "caches")
	}
}

// labelledPod is a restricted pod with the label, and `more` (JSON members, with a trailing comma) in its spec.
func labelledPod(cluster, more string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"sidegrid.dev/cluster":%q}},"spec":{%s
	  "securityContext":{"runAsNonRoot":true,"runAsUser":65532,"seccompProfile":{"type":"RuntimeDefault"}},
	  "containers":[{"name":"app","image":"sidegrid.dev/sessions:0.1.0",
	    "securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`, cluster, more)
}

// TestBadPodsAreRefused: by the webhook, with the field and the remedy in the message.
func TestBadPodsAreRefused(t *testing.T) {
	s := newSpace(t, "bad-pods")
	s.must(s.kube.Apply(s.ctx, s.name, cacheCluster("web", withCache(`{}`))))
	pod := labelledPod("web", "")
	change := func(old, new string) string {
		if !strings.Contains(pod, old) {
			t.Fatalf("the pod doesn't hold %q", old)
		}
		return strings.Replace(pod, old, new, 1)
	}
	other := newSpace(t, "bad-pods-elsewhere")
	other.must(other.kube.Apply(other.ctx, other.name, cacheCluster("elsewhere", withCache(`{}`))))

	s.refused("a CacheCluster that isn't there", labelledPod("none", ""), "sidegrid.dev/cluster", "none")
	s.refused("a CacheCluster of another namespace", labelledPod("elsewhere", ""), "sidegrid.dev/cluster", "elsewhere")
	s.refused("the node's network", labelledPod("web", `"hostNetwork":true,`), "hostNetwork")
	s.refused("a taken container name", change(`"name":"app"`, `"name":"sidegrid"`), "containers", "sidegrid")
	s.refused("a taken volume name", labelledPod("web", `"volumes":[{"name":"sidegrid-run","emptyDir":{}}],`), "volumes", "sidegrid-run")
	s.refused("a taken port", change(`"name":"app",`, `"name":"app","ports":[{"containerPort":7080}],`), "7080")
	s.refused("an unknown role", change(`"labels":{`, `"labels":{"sidegrid.dev/role":"king",`), "sidegrid.dev/role", "king")
	s.refused("an unknown readiness", change(`"labels":{`, `"annotations":{"sidegrid.dev/readiness":"never"},"labels":{`), "sidegrid.dev/readiness", "never")

	_, err := s.kube.Run(s.ctx, pod, "create", "--dry-run=server", "--filename=-", "--namespace="+s.name)
	if err != nil {
		t.Errorf("a pod that is right is refused: %v", err)
	}
}
