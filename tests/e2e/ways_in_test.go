package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/e2e/kube"
)

// waysLimit bounds one order to helm.
const waysLimit = 5 * time.Minute

// TestWaysIn: the chart installs, tests, upgrades, rolls back and goes, and the kustomization takes its place again. A
// cluster of pods serves all along the upgrade and the rollback without a fault, the webhook stays trusted, a definition of
// CacheCluster that drifted is mended, and it is all that outlives the release, beside what the operator keeps.
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
	t.Run("ChangesUnderPods", func(t *testing.T) {
		pods := startWeb(newSpace(t, "ways", registryWarnings), 200)
		_, err := w.kube.Run(ctx, "", "patch", "crd", "cacheclusters.sidegrid.dev", "--type=json",
			`--patch=[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]`)
		must(err)
		pods.during("an upgrade of the chart", orderly, 3, func([]kube.Pod) {
			helm("upgrade", "sidegrid", chart, "--set=operator.podAnnotations.round=second", "--wait", "--timeout", waysLimit.String())
		})
		still("the upgrade")
		if table := pods.run("get", "cgrid"); !strings.Contains(table, "SURVIVES") {
			t.Errorf("the upgrade left the definition as it was: %s", table)
		}
		pods.joinsWith(4)
		pods.during("its rollback", orderly, 4, func([]kube.Pod) {
			helm("rollback", "sidegrid", "1", "--wait", "--timeout", waysLimit.String())
		})
		still("the rollback")
		pods.joinsWith(5)
	})
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
	left, err := w.kube.Run(ctx, "", "get", releases, "--all-namespaces", "--selector=app.kubernetes.io/name=sidegrid", "--output=name")
	must(err)
	if len(left) > 0 {
		t.Errorf("the release left:\n%s", left)
	}
	must(w.install(ctx))
}

// releases are the kinds of what a release makes; the definition of CacheCluster, without the label, is to stay.
const releases = "deployments,services,serviceaccounts,poddisruptionbudgets,roles,rolebindings,clusterroles," +
	"clusterrolebindings,mutatingwebhookconfigurations,configmaps,secrets"
