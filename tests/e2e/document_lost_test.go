package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"example.com/sidegrid/e2e/app"
	"example.com/sidegrid/e2e/kube"
)

// TestLostDocumentIsRestored: when the document is deleted, or put back to an older one, the members go on as they are,
// none makes a second cluster, and what they say brings the document back, so that pods can join and nothing is lost.
func TestLostDocumentIsRestored(t *testing.T) {
	w := startWeb(newSpace(t, "document", faultWarnings, registryWarnings, lostWarnings), 500)
	cluster, err := w.cacheCluster(w.ctx, "web")
	w.must(err)
	name := "document-" + cluster.Metadata.UID
	old, err := w.kube.Run(w.ctx, "", "get", "configmap", name, "--namespace="+operatorNamespace, "--output=jsonpath={.data}")
	w.must(err)

	w.restored("deleted", 4, func() {
		_, err := w.kube.Run(w.ctx, "", "delete", "configmap", name, "--namespace="+operatorNamespace)
		w.must(err)
	})
	w.restored("put back to an older one", 3, func() {
		patch := fmt.Sprintf(`{"data":%s}`, old)
		_, err := w.kube.Run(w.ctx, "", "patch", "configmap", name, "--namespace="+operatorNamespace, "--type=merge", "--patch="+patch)
		w.must(err)
	})
}

// restored loses the document and scales to `count`, which needs it.
func (w *web) restored(what string, count int, lose func()) {
	w.t.Helper()
	before, err := w.client.Cluster(w.ctx, w.pods[0].Status.PodIP)
	w.must(err)
	lose()
	w.must(w.ledger.Check(w.ctx, w.addresses()))
	w.joinsWith(count)
	w.must(w.ledger.Check(w.ctx, w.addresses()))
	after, err := w.client.Cluster(w.ctx, w.pods[0].Status.PodIP)
	w.must(err)
	// Numbers of a document that was made again go on by a thousand.
	if after.View.Number < before.View.Number+1000 {
		w.t.Errorf("%s: the view went from %d to %d, so the document wasn't made again", what, before.View.Number, after.View.Number)
	}
	for _, member := range before.View.Members {
		stays := func(p kube.Pod) bool { return p.Metadata.Name == member.Name }
		if slices.ContainsFunc(w.pods, stays) && !hasMember(after, member.ID) {
			w.t.Errorf("%s: %s, a member before, had to join anew", what, member.Name)
		}
	}
}

func hasMember(state *app.Cluster, id string) bool {
	for _, member := range state.View.Members {
		if member.ID == id {
			return true
		}
	}
	return false
}

// TestDeletedCacheClusterCleansUp: its authority and document stay while members run, and go with the last of them.
func TestDeletedCacheClusterCleansUp(t *testing.T) {
	w := startWeb(newSpace(t, "deleted", registryWarnings), 50)
	cluster, err := w.cacheCluster(w.ctx, "web")
	w.must(err)
	uid := cluster.Metadata.UID
	kept := []string{"secret/authority-" + uid, "configmap/document-" + uid}
	there := func(ctx context.Context) (found int, err error) {
		for _, object := range kept {
			_, err := w.kube.Run(ctx, "", "get", object, "--namespace="+operatorNamespace)
			switch {
			case err == nil:
				found++
			case !kube.IsNotFound(err):
				return found, err
			}
		}
		return found, nil
	}
	if found, err := there(w.ctx); err != nil || found != len(kept) {
		t.Fatalf("%d of %v are there: %v", found, kept, err)
	}
	w.run("delete", "cgrid", "web", "--wait=false")
	w.until(settleLimit, "the operator's word that it waits", func(ctx context.Context) error { return w.told(ctx, "WaitingForPods") })
	w.must(w.ledger.Check(w.ctx, w.addresses()))
	if found, err := there(w.ctx); err != nil || found != len(kept) {
		t.Errorf("with members running, %d of %v are there: %v", found, kept, err)
	}
	w.run("delete", "deployment", "web")
	w.until(endLimit, "the end of all that belongs to the cluster", func(ctx context.Context) error {
		found, err := there(ctx)
		if err == nil && found > 0 {
			err = fmt.Errorf("%d of %v are there", found, kept)
		}
		if err != nil {
			return err
		}
		if _, err := w.cacheCluster(ctx, "web"); !kube.IsNotFound(err) {
			return errors.Join(errors.New("the CacheCluster is there"), err)
		}
		return nil
	})
}
