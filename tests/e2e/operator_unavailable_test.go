package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/sidegrid/e2e/kube"
)

// TestClusterServesWithoutTheOperator: with no replica of it nothing of the cache fails; pods with the label can't be
// made, and the refusal says why; and once it is back they can.
func TestClusterServesWithoutTheOperator(t *testing.T) {
	w := startWeb(newSpace(t, "away", registryWarnings), 200)
	t.Cleanup(func() { w.scaleOperator(context.Background(), 2) })
	w.scaleOperator(w.ctx, 0)

	// No patience here: each call must be answered well at once.
	away := 10 * time.Second
	if long() {
		away = 2 * time.Minute
	}
	for i, began := 0, time.Now(); time.Since(began) < away; i++ {
		at := addresses(w.pods)
		session, err := w.client.Login(w.ctx, at[i%3], fmt.Sprintf("alone-%d", i))
		if err != nil {
			t.Fatalf("login %d: %v", i, err)
		}
		if user, err := w.client.Read(w.ctx, at[(i+1)%3], session.Cookie); err != nil || user != session.User {
			t.Fatalf("read %d: %q %v", i, user, err)
		}
	}
	w.must(w.agree(w.ctx, w.pods))
	w.refused("a labelled pod while no operator answers", labelledPod("web", ""), "sidegrid")

	w.scaleOperator(w.ctx, 2)
	w.run("scale", "deployment/web", "--replicas=4")
	pods := w.settled("web", 4)
	w.must(w.ledger.Check(w.ctx, addresses(pods)))
}

// TestJoinGoesOnWithOneOperator: one of two replicas dies while pods join; the other one does it all.
func TestJoinGoesOnWithOneOperator(t *testing.T) {
	w := startWeb(newSpace(t, "one-of-two", registryWarnings), 100)
	operators, err := w.operatorPods(w.ctx)
	w.must(err)
	if len(operators) != 2 {
		t.Fatalf("there are %d operators", len(operators))
	}
	w.during("an operator killed during a join", orderly, 5, func([]kube.Pod) {
		w.run("scale", "deployment/web", "--replicas=5")
		_, err := w.kube.Run(w.ctx, "", "delete", "pod", operators[0].Metadata.Name, "--namespace="+operatorNamespace,
			"--grace-period=0", "--force")
		w.must(err)
	})
	w.must(w.operatorReady(w.ctx))
}

// scaleOperator waits until there are this many replicas, ready ones.
func (w *web) scaleOperator(ctx context.Context, count int) {
	w.t.Helper()
	_, err := w.kube.Run(ctx, "", "scale", "deployment/sidegrid-operator", fmt.Sprintf("--replicas=%d", count), "--namespace="+operatorNamespace)
	if err == nil && count > 0 {
		err = w.operatorReady(ctx)
	}
	if err == nil {
		err = kube.Until(ctx, endLimit, fmt.Sprintf("%d operators", count), func(ctx context.Context) error {
			var pods kube.List[kube.Pod]
			err := w.kube.Get(ctx, &pods, "pods", "--namespace="+operatorNamespace, "--selector=app.kubernetes.io/component=operator")
			if err != nil {
				return err
			}
			if len(pods.Items) != count {
				return fmt.Errorf("there are %d", len(pods.Items))
			}
			return nil
		})
	}
	if err != nil {
		// In a cleanup Fatal would keep the others from running.
		w.t.Error(errors.Join(errors.New("the operator can't be scaled"), err))
	}
}
