package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"example.com/sidegrid/e2e/app"
	"example.com/sidegrid/e2e/kube"
	"example.com/sidegrid/e2e/processes"
)

// TestAllPodsGone: when the members of all nodes die at once, the cluster forms again by itself, and says what was lost.
func TestAllPodsGone(t *testing.T) {
	w := startWeb(newSpace(t, "all-gone", faultWarnings, registryWarnings, []string{"every copy of"}), 200)
	before, err := w.client.Cluster(w.ctx, w.pods[0].Status.PodIP)
	w.must(err)
	session, err := w.client.Login(w.ctx, w.pods[0].Status.PodIP, "ada")
	w.must(err)

	// By signal: also a deletion without grace lets the members hand over to each other for some seconds.
	var sidecars []int
	for i := range w.pods {
		sidecars = append(sidecars, w.process(&w.pods[i], processes.Supervisor))
	}
	for _, sidecar := range sidecars {
		w.kill(sidecar)
	}
	for i := range w.pods {
		w.restarted(&w.pods[i])
	}
	pods := w.settled("web", 3)

	after, err := w.client.Cluster(w.ctx, pods[0].Status.PodIP)
	w.must(err)
	if after.View.Number <= before.View.Number {
		t.Errorf("the view went from %d to %d", before.View.Number, after.View.Number)
	}
	_, err = w.client.Read(w.ctx, pods[1].Status.PodIP, session.Cookie)
	var refused *app.Refused
	if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Errorf("a session that nobody held any more was answered: %v", err)
	}
	if _, err := w.client.Login(w.ctx, pods[2].Status.PodIP, "bob"); err != nil {
		t.Error(err)
	}
	w.until(settleLimit, "the loss in status and events", func(ctx context.Context) error {
		cluster, err := w.cacheCluster(ctx, "web")
		if err != nil {
			return err
		}
		loss := cluster.Status.LastLoss
		if loss == nil || loss.Segments != cluster.Status.Segments.Total || loss.View <= before.View.Number {
			return fmt.Errorf("lastLoss is %+v, of %d segments", loss, cluster.Status.Segments.Total)
		}
		return w.told(ctx, "DataLost")
	})
}

// told says whether there is an event of this reason on the CacheCluster `web`.
func (s *space) told(ctx context.Context, reason string) error {
	var events kube.List[struct {
		Reason string `json:"reason"`
	}]
	if err := s.kube.Get(ctx, &events, "events", "--namespace="+s.name, "--field-selector=involvedObject.name=web"); err != nil {
		return err
	}
	for _, event := range events.Items {
		if event.Reason == reason {
			return nil
		}
	}
	return fmt.Errorf("no event %s among %+v", reason, events.Items)
}
