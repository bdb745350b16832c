package e2e

import (
	"context"
	"fmt"
	"testing"
)

// TestMissedPodsAreFound: the documented way out takes the webhook away. Pods that are made meanwhile run without a cache
// and are reported; once the manifests are applied again a pod that is made anew joins.
func TestMissedPodsAreFound(t *testing.T) {
	s := newSpace(t, "missed")
	t.Cleanup(func() {
		if err := s.install(context.Background()); err != nil {
			t.Errorf("the webhook is not back: %v", err)
		}
	})
	s.example("sessions/kubernetes.yaml", "replicas: 3", "replicas: 2")
	s.settled("web", 2)
	injection := func(status string) {
		t.Helper()
		s.until(settleLimit, "InjectionReady "+status, func(ctx context.Context) error {
			cluster, err := s.cacheCluster(ctx, "web")
			if err != nil {
				return err
			}
			missed := 0
			for _, member := range cluster.Status.Members {
				if member.State == "NotInjected" {
					missed++
				}
			}
			if cluster.Is("InjectionReady") != status || (status == "False") != (missed > 0) {
				return fmt.Errorf("it is %s, with %+v", cluster.Is("InjectionReady"), cluster.Status.Members)
			}
			return nil
		})
	}
	injection("True")

	s.run("delete", "mutatingwebhookconfiguration", "sidegrid")
	s.run("scale", "deployment/web", "--replicas=3")
	pods := s.ready("web", 3)
	injection("False")
	s.until(settleLimit, "an event", func(ctx context.Context) error { return s.told(ctx, "NotInjected") })
	missed := ""
	for _, pod := range pods {
		if pod.Sidecar() == nil {
			missed = pod.Metadata.Name
		}
	}
	if missed == "" {
		t.Fatal("every pod has a sidecar, though there was no webhook")
	}

	s.must(s.install(s.ctx))
	s.run("delete", "pod", missed)
	s.settled("web", 3)
	injection("True")
}
