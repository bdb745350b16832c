package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"example.com/sidegrid/e2e/processes"
)

// slowEnd is how long the app of the test takes to end after it was told to.
const slowEnd = 12 * time.Second

// TestSidecarEndsAfterItsApp: when a pod is deleted its member hands over at once and leaves the view, goes on answering
// the app as a client for as long as that takes to end, and is told to end itself only then. This is an order that the
// kubelet keeps; the hand-over rests on it.
func TestSidecarEndsAfterItsApp(t *testing.T) {
	w := &web{space: newSpace(t, "order")}
	// The app is told to end after its own hook only, which the kubelet runs beside the sidecar's.
	w.example("sessions/kubernetes.yaml", "          image: sidegrid.dev/sessions:0.1.0\n",
		fmt.Sprintf("          image: sidegrid.dev/sessions:0.1.0\n          lifecycle: {preStop: {sleep: {seconds: %d}}}\n", int(slowEnd.Seconds())))
	w.use(w.settled("web", 3))
	leaver, stays := w.pods[0], w.pods[1]
	session, err := w.client.Login(w.ctx, stays.Status.PodIP, "ada")
	w.must(err)
	app, sidecar := w.process(&leaver, processes.App), w.process(&leaver, processes.Supervisor)

	w.run("delete", "pod", leaver.Metadata.Name, "--wait=false")
	w.until(slowEnd, "a view without the leaver", func(ctx context.Context) error {
		state, err := w.client.Cluster(ctx, stays.Status.PodIP)
		if err != nil {
			return err
		}
		if slices.Contains(memberNames(state), leaver.Metadata.Name) {
			return fmt.Errorf("the view has %v", memberNames(state))
		}
		return nil
	})
	if processes.State(app) == "" {
		t.Fatal("the app has ended already, so nothing is shown")
	}
	if status := insider(app).session(w.ctx, session.Cookie); status != "200" {
		t.Errorf("its app, still there, is answered %s", status)
	}
	w.until(startLimit, "the app's end", func(context.Context) error {
		if processes.State(sidecar) == "" && processes.State(app) != "" {
			t.Fatal("the sidecar ended before its app")
		}
		if processes.State(app) != "" {
			return errors.New("it runs")
		}
		return nil
	})
	w.gone(sidecar)
	w.settled("web", 3)
}

// TestAppsAccountMayDoNothingMore: pods with a sidecar run under the namespace's default account, which may do here what
// it may do in a namespace that has never had one.
func TestAppsAccountMayDoNothingMore(t *testing.T) {
	s := newSpace(t, "account")
	s.example("sessions/kubernetes.yaml")
	s.ready("web", 3)
	may := func(namespace string) string {
		out, err := s.kube.Run(s.ctx, "", "auth", "can-i", "--list", "--namespace="+namespace, "--as=system:serviceaccount:"+namespace+":default")
		s.must(err)
		return string(out)
	}
	if here, elsewhere := may(s.name), may("default"); here != elsewhere {
		t.Errorf("it may:\n%s\nand in another namespace:\n%s", here, elsewhere)
	}
}
