// Package manifests looks at what the ways in would install, without a Kubernetes.
package manifests

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.com/sidegrid/e2e/kube"
	"example.com/sidegrid/e2e/machine"
)

// namespace is the one that the kustomization names throughout.
const namespace = "sidegrid-system"

var (
	root    string
	bin     string
	kubectl *kube.Kubectl
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if root, err = machine.Root(); err == nil {
			bin, err = programs()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		// No API server is asked: there is none behind this name.
		kubectl = &kube.Kubectl{Program: filepath.Join(bin, "kubectl"), Config: os.DevNull}
		return m.Run()
	}())
}

func helm(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(bin, "helm"), arguments...)
	home := t.TempDir()
	command.Env = append(os.Environ(), "KUBECONFIG="+os.DevNull, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var said strings.Builder
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		err = fmt.Errorf("helm %s: %w: %s", strings.Join(arguments, " "), err, said.String())
	}
	return string(out), err
}

// template renders the chart as helm installs it, without the hooks of `helm test`.
func template(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	chart := filepath.Join(root, "charts", "sidegrid")
	// The version only has to be one that the chart takes.
	return helm(t, append([]string{"template", "sidegrid", chart, "--namespace=" + namespace, "--no-hooks", "--kube-version=1.35.0"}, arguments...)...)
}

type object = map[string]any

func objects(t *testing.T, yaml string) map[string]object {
	t.Helper()
	read, err := kubectl.Objects(t.Context(), yaml)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]object{}
	for _, one := range read {
		metadata := one["metadata"].(object)
		// Helm's own orders to itself.
		if annotations, ok := metadata["annotations"].(object); ok {
			maps.DeleteFunc(annotations, func(name string, _ any) bool { return strings.HasPrefix(name, "helm.sh/") })
			if len(annotations) == 0 {
				delete(metadata, "annotations")
			}
		}
		key := fmt.Sprintf("%v %v/%v", one["kind"], metadata["namespace"], metadata["name"])
		if all[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		all[key] = one
	}
	return all
}

// TestChartAndKustomizationInstallTheSame: object by object, but for the namespace, which helm makes by itself.
func TestChartAndKustomizationInstallTheSame(t *testing.T) {
	rendered, err := template(t)
	if err != nil {
		t.Fatal(err)
	}
	built, err := kubectl.Run(t.Context(), "", "kustomize", filepath.Join(root, "deploy", "kustomize", "default"))
	if err != nil {
		t.Fatal(err)
	}
	byChart, byKustomization := objects(t, rendered), objects(t, string(built))
	namespaceKey := "Namespace <nil>/" + namespace
	if byKustomization[namespaceKey] == nil {
		t.Errorf("the kustomization makes no namespace %s", namespace)
	}
	delete(byKustomization, namespaceKey)
	if len(byChart) < 10 {
		t.Errorf("the chart has %d objects only: %v", len(byChart), slices.Sorted(maps.Keys(byChart)))
	}
	for key, one := range byChart {
		if other := byKustomization[key]; other == nil {
			t.Errorf("%s: the chart has it, the kustomization has not", key)
		} else if !reflect.DeepEqual(one, other) {
			t.Errorf("%s differs:\nchart:         %s\nkustomization: %s", key, text(one), text(other))
		}
	}
	for key := range byKustomization {
		if byChart[key] == nil {
			t.Errorf("%s: the kustomization has it, the chart has not", key)
		}
	}
}

func text(value any) string {
	out, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// TestBothHaveTheGeneratedDefinition: the two files come from one type, and no one edited either.
func TestBothHaveTheGeneratedDefinition(t *testing.T) {
	one, err := os.ReadFile(filepath.Join(root, "deploy", "kustomize", "base", "crd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(root, "charts", "sidegrid", "files", "crd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if string(one) != string(other) {
		t.Error("deploy/kustomize/base/crd.yaml and charts/sidegrid/files/crd.yaml differ; both are generated")
	}
}

// TestChartRefusesWhatItDoesNotKnow: a value with a typing error must not be passed over.
func TestChartRefusesWhatItDoesNotKnow(t *testing.T) {
	cases := map[string]string{
		"operator.replica=3":                     "replica",
		"operator.logLevel=loud":                 "logLevel",
		"operator.replicas=two":                  "replicas",
		"operator.image.pullPolicy=Sometimes":    "pullPolicy",
		"sidecar.image.repository=":              "repository",
		"imagePullSecrets[0].nam=x":              "nam",
		"operator.resources.request.cpu=1":       "request",
		"operators.replicas=2":                   "operators",
		"operator.webhookPort=0":                 "webhookPort",
		"operator.dnsPolicy=Mine":                "dnsPolicy",
		"operator.extraEnv[0].value=x":           "name",
		"enabled=perhaps":                        "enabled",
		"operator.nodeSelector.disk.kind.deep=1": "nodeSelector",
	}
	for set, names := range cases {
		if out, err := template(t, "--set="+set); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("--set %s: not refused by name: %v %.200s", set, err, out)
		}
	}
}

// TestValuesReachTheObjects: each value that may be set has an effect.
func TestValuesReachTheObjects(t *testing.T) {
	cases := map[string]string{
		"operator.replicas=3":                                "replicas: 3",
		"operator.image.repository=other.example/o":          `image: "other.example/o:`,
		"operator.image.tag=v9":                              `sidegrid.dev/operator:v9"`,
		"operator.logLevel=debug":                            "name: LOG_LEVEL, value: debug",
		"operator.image.pullPolicy=Never":                    "imagePullPolicy: Never",
		"operator.resources.limits.memory=1Gi":               "memory: 1Gi",
		"operator.nodeSelector.disk=ssd":                     "disk: ssd",
		"operator.tolerations[0].key=spot":                   "key: spot",
		"operator.affinity.nodeAffinity.x=y":                 "nodeAffinity:",
		"operator.priorityClassName=system-cluster-critical": "priorityClassName: system-cluster-critical",
		"operator.podAnnotations.note=hello":                 "note: hello",
		"sidecar.image.repository=other.example/s":           `value: "other.example/s:`,
		"sidecar.image.tag=v9":                               `sidegrid.dev/sidecar:v9"`,
		"imagePullSecrets[0].name=pull":                      "- name: pull",
		"sidecar.allowedImages={mirror/*,other}":             `name: SIDECAR_IMAGES, value: "mirror/*,other"`,
		"operator.podLabels.team=grid":                       "team: grid",
		"operator.topologySpreadConstraints[0].maxSkew=3":    "maxSkew: 3",
		"operator.serviceAccount.annotations.role=reader":    "role: reader",
		"operator.podSecurityContext.fsGroup=7":              "fsGroup: 7",
		"operator.securityContext.runAsUser=7":               "runAsUser: 7",
		"operator.hostNetwork=true":                          "hostNetwork: true",
		"operator.dnsPolicy=Default":                         "dnsPolicy: Default",
		"operator.webhookPort=10260":                         "name: webhook, containerPort: 10260",
		"operator.registryPort=10261":                        "name: registry, containerPort: 10261",
		"operator.adminPort=10262":                           "name: admin, containerPort: 10262",
		"operator.extraEnv[0].name=HTTPS_PROXY":              "name: HTTPS_PROXY",
	}
	plain, err := template(t)
	if err != nil {
		t.Fatal(err)
	}
	for set, shown := range cases {
		out, err := template(t, "--set="+set)
		if err != nil || !strings.Contains(out, shown) || strings.Contains(plain, shown) {
			t.Errorf("--set %s: %q is not shown by it alone: %v", set, shown, err)
		}
	}
	single, err := template(t, "--set=operator.replicas=1")
	if err != nil || strings.Contains(single, "kind: PodDisruptionBudget") {
		t.Errorf("a budget for one replica would keep its node from being drained: %v", err)
	}
}
