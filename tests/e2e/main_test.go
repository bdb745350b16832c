package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.com/sidegrid/e2e/app"
	"example.com/sidegrid/e2e/kube"
	"example.com/sidegrid/e2e/machine"
)

// operatorNamespace is where the operator is.
const operatorNamespace = "sidegrid-system"

// Deadlines, generous ones: a machine with two cores that does other things too meets them.
const (
	upLimit      = 30 * time.Minute // the programs of Kubernetes may have to be built
	startLimit   = 3 * time.Minute  // an image that is there becomes a ready pod
	settleLimit  = 2 * time.Minute  // the cluster has as many members as pods, and all copies
	rolloutLimit = 6 * time.Minute  // each pod of a Deployment is replaced
	endLimit     = 2 * time.Minute  // what was deleted is gone
)

// world is what the tests share: one Kubernetes with the operator in it.
type world struct {
	root    string
	kube    *kube.Kubectl
	machine *machine.Machine
	client  *app.Client
	// kept is the folder for what failed tests leave.
	kept string
}

var shared *world

func TestMain(m *testing.M) { os.Exit(all(m)) }

// all runs the tests in a Kubernetes of their own, which it takes down whatever happens.
func all(m *testing.M) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	shared, err = prepare(ctx)
	defer func() {
		if shared.machine != nil {
			err = errors.Join(err, shared.machine.End())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		// What failed tests have left stays.
		if code == 0 {
			_ = os.RemoveAll(shared.kept)
		}
	}()
	if err != nil {
		return 1
	}
	// An interrupt ends the wait for the tests, so that the cluster is taken down all the same.
	done := make(chan int, 1)
	go func() { done <- m.Run() }()
	select {
	case code = <-done:
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "interrupted")
		code = 1
	}
	return code
}

// prepare brings up the cluster, loads the images, and installs the operator by the kustomization.
func prepare(ctx context.Context) (*world, error) {
	ctx, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	w := &world{}
	var err error
	if w.root, err = machine.Root(); err != nil {
		return w, err
	}
	images, err := w.images()
	if err != nil {
		return w, err
	}
	if w.kept, err = os.MkdirTemp("", "sidegrid-e2e-kept-"); err != nil {
		return w, err
	}
	up, err := machine.Up(ctx)
	if err != nil {
		return w, err
	}
	w.machine = up
	w.kube = &kube.Kubectl{Program: filepath.Join(w.machine.Bin(), "kubectl"), Config: w.machine.Kubeconfig()}
	if err := w.machine.Load(ctx, images...); err != nil {
		return w, err
	}
	if w.client, err = app.NewClient(w.machine.Range()); err != nil {
		return w, err
	}
	return w, w.install(ctx)
}

// images are the tars that `make images` packs.
func (w *world) images() ([]string, error) {
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(w.root, "target")
	}
	var tars []string
	for _, name := range []string{"sidecar", "operator", "sessions"} {
		tar := filepath.Join(target, "images", name+".tar")
		if _, err := os.Stat(tar); err != nil {
			return nil, fmt.Errorf("%w; `make images` packs it", err)
		}
		tars = append(tars, tar)
	}
	return tars, nil
}

func (w *world) nodes(ctx context.Context) ([]kube.Node, error) {
	var nodes kube.List[kube.Node]
	err := w.kube.Get(ctx, &nodes, "nodes")
	return nodes.Items, err
}

// install installs the operator as the README says, and waits until it answers.
func (w *world) install(ctx context.Context) error {
	if _, err := w.kube.Run(ctx, "", "apply", "--kustomize", filepath.Join(w.root, "deploy", "kustomize", "default")); err != nil {
		return err
	}
	_, err := w.kube.Run(ctx, "", "wait", "--for=condition=Established", "crd/cacheclusters.sidegrid.dev", "--timeout=30s")
	if err != nil {
		return err
	}
	return w.operatorReady(ctx)
}

// operatorReady waits until all replicas are ready and the API server trusts the webhook.
func (w *world) operatorReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	_, err := w.kube.RunFor(ctx, "", "rollout", "status", "deployment/sidegrid-operator", "--namespace="+operatorNamespace)
	if err != nil {
		return errors.Join(err, w.kube.Keep(w.kept, operatorNamespace), fmt.Errorf("what there was is kept in %s", w.kept))
	}
	return kube.Until(ctx, startLimit, "the webhook's caBundle", func(ctx context.Context) error {
		if bundle, err := w.caBundle(ctx); err != nil || bundle == "" {
			return errors.Join(errors.New("it is empty"), err)
		}
		return nil
	})
}

// caBundle is what the API server checks the webhook by.
func (w *world) caBundle(ctx context.Context) (string, error) {
	out, err := w.kube.Run(ctx, "", "get", "mutatingwebhookconfiguration", "sidegrid",
		"--output=jsonpath={.webhooks[0].clientConfig.caBundle}")
	return string(out), err
}

// operatorPods are the operator's pods that aren't on their way out.
func (w *world) operatorPods(ctx context.Context) ([]kube.Pod, error) {
	var pods kube.List[kube.Pod]
	err := w.kube.Get(ctx, &pods, "pods", "--namespace="+operatorNamespace,
		"--selector=app.kubernetes.io/name=sidegrid,app.kubernetes.io/component=operator")
	var staying []kube.Pod
	for _, pod := range pods.Items {
		if pod.Metadata.DeletionTimestamp == nil {
			staying = append(staying, pod)
		}
	}
	return staying, err
}

// helm runs helm against the cluster with folders of its own, and gives what it wrote.
func (w *world) helm(ctx context.Context, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(w.machine.Bin(), "helm"), arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.kube.Config,
		"HELM_CACHE_HOME="+w.kept, "HELM_CONFIG_HOME="+w.kept, "HELM_DATA_HOME="+w.kept)
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %v: %w: %s", arguments, err, out)
	}
	return string(out), err
}

// long says whether the long forms were asked for.
func long() bool { return os.Getenv("SIDEGRID_LONG") == "1" }

// sized is a count for the short form and one for the long one.
func sized(short, otherwise int) int {
	if long() {
		return otherwise
	}
	return short
}
