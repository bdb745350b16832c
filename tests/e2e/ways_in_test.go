package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// waysLimit bounds one order to helm.
const waysLimit = 5 * time.Minute

// TestWaysIn: the chart installs, tests, upgrades, rolls back and goes, and the kustomization takes its place again. The
// webhook stays trusted all along, and the definition of CacheCluster outlives the release.
func TestWaysIn(t *testing.T) {
	w := shared
	ctx := t.Context()
	kustomization := filepath.Join(w.root, "deploy", "kustomize", "default")
	chart := filepath.Join(w.root, "charts", "sidegrid")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		// Whatever happened, the tests after this one find the operator installed as it was.
		ctx, cancel := context.WithTimeout(context.Background(), waysLimit)
		defer cancel()
		if t.Failed() {
			t.Log(w.kube.Keep(filepath.Join(w.kept, t.Name()), operatorNamespace))
		}
		_, _ = w.helm(ctx, "uninstall", "sidegrid", "--namespace", operatorNamespace, "--ignore-not-found", "--wait")
		if err := w.install(ctx); err != nil {
			t.Errorf("the operator is not back: %v", err)
		}
	})

	// Helm takes over no objects that it hasn't made.
	_, err := w.kube.RunFor(ctx, "", "delete", "--kustomize", kustomization, "--timeout="+waysLimit.String())
	must(err)
	helm := func(arguments ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, waysLimit)
		defer cancel()
		out, err := w.helm(ctx, append(arguments, "--namespace", operatorNamespace)...)
		must(err)
		return out
	}
	notes := helm("install", "sidegrid", chart, "--create-namespace", "--wait", "--timeout", waysLimit.String())
	if !strings.Contains(notes, "helm -n "+operatorNamespace+" test sidegrid") {
		t.Errorf("the notes don't tell the next command: %s", notes)
	}
	must(w.operatorReady(ctx))
	trusted, err := w.caBundle(ctx)
	must(err)
	if said := helm("test", "sidegrid", "--timeout", waysLimit.String()); !strings.Contains(said, "Succeeded") {
		t.Errorf("helm test says: %s", said)
	}

	still := func(after string) {
		t.Helper()
		must(w.operatorReady(ctx))
		if bundle, err := w.caBundle(ctx); err != nil || bundle != trusted {
			t.Errorf("after %s the webhook is checked by another authority (%v)", after, err)
		}
	}
	helm("upgrade", "sidegrid", chart, "--set=operator.podAnnotations.round=second", "--wait", "--timeout", waysLimit.String())
	still("the upgrade")
	helm("rollback", "sidegrid", "1", "--wait", "--timeout", waysLimit.String())
	still("the rollback")
	operators, err := w.operatorPods(ctx)
	must(err)
	for _, pod := range operators {
		if pod.Metadata.Annotations["round"] != "" {
			t.Errorf("%s was not rolled back", pod.Metadata.Name)
		}
	}

	helm("uninstall", "sidegrid", "--wait", "--timeout", waysLimit.String())
	if out, err := w.kube.Run(ctx, "", "get", "crd", "cacheclusters.sidegrid.dev", "--output=name"); err != nil {
		t.Errorf("the definition went with the release: %s %v", out, err)
	}
	must(w.install(ctx))
}
