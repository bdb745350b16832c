package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/sidegrid/e2e/app"
	"example.com/sidegrid/e2e/kube"
	"example.com/sidegrid/e2e/processes"
)

// web is the example app under load, with a ledger of what it acknowledged.
type web struct {
	*space
	ledger *app.Ledger

	mu   sync.Mutex
	pods []kube.Pod
}

// startWeb brings the example up with three pods and writes `count` sessions.
func startWeb(s *space, count int) *web {
	s.t.Helper()
	s.example("sessions/kubernetes.yaml")
	w := &web{space: s, ledger: app.NewLedger(s.client)}
	w.use(s.settled("web", 3))
	s.must(w.ledger.Write(s.ctx, count, w.addresses))
	return w
}

// joinsWith scales the example up, and waits until all of its pods are members.
func (w *web) joinsWith(count int) {
	w.t.Helper()
	w.run("scale", "deployment/web", fmt.Sprintf("--replicas=%d", count))
	w.use(w.settled("web", count))
}

// followEvery is between two looks at which pods are ready.
const followEvery = time.Second

// use makes writers use these pods from now on.
func (w *web) use(pods []kube.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods = pods
}

func (w *web) addresses() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return addresses(w.pods)
}

// manner is how something happens to pods: told to them, or not.
type manner int

const (
	sudden manner = iota
	orderly
)

// during writes and reads sessions without a pause while `fault` happens and until there are `count` settled pods again;
// then every session that was ever acknowledged must be there. While something orderly happens the service has no fault.
func (w *web) during(what string, how manner, count int, fault func(pods []kube.Pod)) {
	w.t.Helper()
	before, at := w.ledger.Len(), slices.Clone(w.pods)
	ctx, cancel := context.WithCancel(w.ctx)
	var writers sync.WaitGroup
	defer writers.Wait()
	defer cancel()
	var mu sync.Mutex
	var felt app.Felt
	for range 2 {
		writers.Go(func() {
			one := w.ledger.WriteUntil(ctx, w.addresses)
			mu.Lock()
			defer mu.Unlock()
			felt.Add(one)
		})
	}
	writers.Go(func() { w.follow(ctx) })
	fault(at)
	pods := w.settled("web", count)
	cancel()
	writers.Wait()
	w.use(pods)
	written := w.ledger.Len() - before
	if err := w.ledger.Check(w.ctx, addresses(pods)); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	if written == 0 {
		w.t.Errorf("%s: nothing was written meanwhile", what)
	}
	if how == orderly && len(felt.Faults) > 0 {
		w.t.Errorf("%s: the service had %d faults, such as %s", what, len(felt.Faults), felt.Faults[0])
	}
	w.t.Logf("%s: %d sessions were written meanwhile, all %d are there; of %d calls %d were faults, the longest answered write took %s, read %s",
		what, written, w.ledger.Len(), felt.Calls, len(felt.Faults), felt.Write.Round(time.Millisecond), felt.Read.Round(time.Millisecond))
}

// follow keeps to the pods that are ready, as a Service does, until ctx ends.
func (w *web) follow(ctx context.Context) {
	for {
		pods, err := w.space.pods(ctx, "web")
		if err == nil {
			w.use(slices.DeleteFunc(pods, func(p kube.Pod) bool { return !p.Ready() }))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(followEvery):
		}
	}
}

// restarted waits until the pod's sidecar has been started once more than `before` says.
func (w *web) restarted(pod *kube.Pod) {
	w.t.Helper()
	before := pod.SidecarStatus().RestartCount
	w.until(startLimit, "a restart of the sidecar of "+pod.Metadata.Name, func(ctx context.Context) error {
		now := new(kube.Pod)
		if err := w.kube.Get(ctx, now, "pod", pod.Metadata.Name, "--namespace="+w.name); err != nil {
			return err
		}
		if count := now.SidecarStatus().RestartCount; count <= before {
			return fmt.Errorf("%d restarts, as before", count)
		}
		return nil
	})
}

// rollout waits until a change of the Deployment has gone through.
func (w *web) rollout() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, rolloutLimit)
	defer cancel()
	_, err := w.kube.RunFor(ctx, "", "rollout", "status", "deployment/web", "--namespace="+w.name)
	w.must(err)
}

// TestNothingIsLost: whatever becomes of one pod at a time, and through rollouts and scaling, no acknowledged session is
// lost.
func TestNothingIsLost(t *testing.T) {
	w := startWeb(newSpace(t, "rolling", faultWarnings), sized(2000, 20000))

	w.during("the member's process is killed", sudden, 3, func(pods []kube.Pod) {
		member := w.process(&pods[0], processes.Member)
		w.kill(member)
		w.gone(member)
	})
	w.during("the sidecar's container is killed", sudden, 3, func(pods []kube.Pod) {
		w.kill(w.process(&pods[1], processes.Supervisor))
		w.restarted(&pods[1])
	})
	w.during("a pod is deleted without grace", sudden, 3, func(pods []kube.Pod) {
		w.run("delete", "pod", pods[2].Metadata.Name, "--grace-period=0", "--force")
	})
	w.during("a rolling restart", orderly, 3, func([]kube.Pod) {
		w.run("rollout", "restart", "deployment/web")
		w.rollout()
	})
	for _, count := range []int{5, 2} {
		w.during(fmt.Sprintf("scaling to %d", count), orderly, count, func([]kube.Pod) {
			w.run("scale", "deployment/web", fmt.Sprintf("--replicas=%d", count))
			w.rollout()
		})
	}
}

// gone waits until a process that was killed is no longer there.
func (s *space) gone(pid int) {
	s.t.Helper()
	s.until(settleLimit, fmt.Sprintf("the end of process %d", pid), func(context.Context) error {
		if state := processes.State(pid); state != "" && state != "Z" {
			return fmt.Errorf("it is in state %s", state)
		}
		return nil
	})
}

// process finds the one process of a pod that is of this kind.
func (s *space) process(pod *kube.Pod, kind processes.Kind) int {
	s.t.Helper()
	pid, err := processes.OfPod(pod.Metadata.UID, kind)
	s.must(err)
	return pid
}

// kill ends a process of a pod at once.
func (s *space) kill(pid int) {
	s.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatalf("killing %d: %v", pid, err)
	}
}
