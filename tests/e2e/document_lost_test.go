package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"example.com/sidegrid/e2e/app"
	"example.com/sidegrid/e2e/kube"
)

// TestLostDocumentIsRestored: when the document is deleted the members go on as they are, none makes a second cluster,
// and what they publish again brings the document back, so that pods can join and nothing is lost.
func TestLostDocumentIsRestored(t *testing.T) {
	w := startWeb(newSpace(t, "document", faultWarnings, registryWarnings, lostWarnings), 500)
	cluster, err := w.cacheCluster(w.ctx, "web")
	w.must(err)
	name := "document-" + cluster.Metadata.UID
	before, err := w.client.Cluster(w.ctx, w.pods[0].Status.PodIP)
	w.must(err)

	_, err = w.kube.Run(w.ctx, "", "delete", "configmap", name, "--namespace="+operatorNamespace)
	w.must(err)
	w.must(w.ledger.Check(w.ctx, w.addresses()))
	// Needed to bring it back: members look at the document only when there is something to change.
	w.run("scale", "deployment/web", "--replicas=4")
	w.until(settleLimit, "the document's return", func(ctx context.Context) error {
		_, err := w.kube.Run(ctx, "", "get", "configmap", name, "--namespace="+operatorNamespace)
		return err
	})
	pods := w.settled("web", 4)
	w.must(w.ledger.Check(w.ctx, addresses(pods)))
	after, err := w.client.Cluster(w.ctx, pods[0].Status.PodIP)
	w.must(err)
	if after.View.Number <= before.View.Number {
		t.Errorf("the view went from %d to %d", before.View.Number, after.View.Number)
	}
	for _, member := range before.View.Members {
		if !hasMember(after, member.ID) {
			t.Errorf("%s, a member before, had to join anew", member.Name)
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
