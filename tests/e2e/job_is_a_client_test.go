package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.com/sidegrid/e2e/kube"
)

// TestJobIsAClient: a Job's pod uses the cache, ends, and was never a member; it is one by default, also without the
// label of its role.
func TestJobIsAClient(t *testing.T) {
	s := newSpace(t, "job")
	s.example("sessions/kubernetes.yaml")
	members := s.settled("web", 3)
	before, err := s.client.Cluster(s.ctx, members[0].Status.PodIP)
	s.must(err)

	s.example("job/kubernetes.yaml")
	s.example("job/kubernetes.yaml", "name: report\nspec:", "name: unmarked\nspec:",
		"        sidegrid.dev/role: client # the default for pods of Jobs\n", "")
	for _, job := range []string{"report", "unmarked"} {
		s.complete(job)
		var pods kube.List[kube.Pod]
		s.must(s.kube.Get(s.ctx, &pods, "pods", "--namespace="+s.name, "--selector=batch.kubernetes.io/job-name="+job))
		if len(pods.Items) != 1 {
			t.Errorf("%s took %d pods", job, len(pods.Items))
		}
		for _, pod := range pods.Items {
			if pod.Metadata.Labels["sidegrid.dev/role"] != "client" || pod.Sidecar() == nil || pod.Sidecar().Value("SIDEGRID_MEMBER_ROLE") != "client" {
				t.Errorf("%s is no client: %v %+v", pod.Metadata.Name, pod.Metadata.Labels, pod.Sidecar())
			}
			log := s.run("logs", pod.Metadata.Name, "--container=report")
			if !strings.Contains(log, "wrote, read and removed") {
				t.Errorf("%s says: %s", pod.Metadata.Name, log)
			}
		}
	}

	after, err := s.client.Cluster(s.ctx, members[0].Status.PodIP)
	s.must(err)
	if after.View.Number != before.View.Number || !slices.Equal(memberNames(after), memberNames(before)) {
		t.Errorf("the Jobs changed the view: %d %v, then %d %v", before.View.Number, memberNames(before), after.View.Number, memberNames(after))
	}
}

// complete waits until a Job has succeeded; one that has failed ends the test at once.
func (s *space) complete(job string) {
	s.t.Helper()
	var failed error
	s.until(startLimit, "completion of "+job, func(ctx context.Context) error {
		var object struct {
			Status struct {
				Conditions []kube.Condition `json:"conditions"`
			} `json:"status"`
		}
		if err := s.kube.Get(ctx, &object, "job", job, "--namespace="+s.name); err != nil {
			return err
		}
		for _, condition := range object.Status.Conditions {
			switch {
			case condition.Type == "Complete" && condition.Status == "True":
				return nil
			case condition.Type == "Failed" && condition.Status == "True":
				failed = fmt.Errorf("%s: %s", condition.Reason, condition.Message)
				return nil
			}
		}
		return fmt.Errorf("conditions are %+v", object.Status.Conditions)
	})
	s.must(failed)
}
