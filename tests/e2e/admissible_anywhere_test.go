package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"example.com/sidegrid/e2e/kube"
)

// strictPod is a pod that keeps the strictest rules and names no user, with `more` (JSON members, with a trailing comma) in
// its spec. Its app uses the cache once and ends.
func strictPod(name, more string) string {
	const restricted = `"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}`
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"sidegrid.dev/cluster":"web"}},"spec":{%s
	  "restartPolicy":"Never","securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}},
	  "containers":[{"name":"app","image":"sidegrid.dev/sessions:0.1.0","args":["once"],%s}]}}`, name, more, restricted)
}

// TestLabelledPodsAreAdmittedWhereTheyWereWithoutTheLabel: under policies of before safe sysctls grew, and where each
// namespace has users of its own.
func TestLabelledPodsAreAdmittedWhereTheyWereWithoutTheLabel(t *testing.T) {
	s := newSpace(t, "admissible")
	s.must(s.kube.Apply(s.ctx, s.name, cacheCluster("web", `{"caches":{"sessions":{}}}`)))
	s.run("label", "namespace", s.name, "--overwrite", "pod-security.kubernetes.io/enforce-version=v1.26")
	const policy = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"e2e-users"},
	  "spec":{"failurePolicy":"Fail","matchConstraints":{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":%q}},
	    "resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]},
	  "validations":[{"message":"a user outside of the namespace's range",
	    "expression":"(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])).all(c, !has(c.securityContext) || !has(c.securityContext.runAsUser))"}]}}`
	const binding = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"e2e-users"},
	  "spec":{"policyName":"e2e-users","validationActions":["Deny"]}}`
	s.t.Cleanup(func() {
		for _, kind := range []string{"validatingadmissionpolicybinding", "validatingadmissionpolicy"} {
			if _, err := s.kube.Run(context.Background(), "", "delete", kind, "e2e-users", "--ignore-not-found"); err != nil {
				t.Error(err)
			}
		}
	})
	s.must(s.kube.Apply(s.ctx, "", fmt.Sprintf(policy, s.name)))
	s.must(s.kube.Apply(s.ctx, "", binding))
	user := strings.Replace(strictPod("other", ""), `"args":["once"],`, `"args":["once"],"x":0,`, 1)
	user = strings.Replace(user, `"x":0,"securityContext":{`, `"securityContext":{"runAsUser":65532,`, 1)
	// The policy works from some moment on; what is shown below is shown only then.
	s.until(settleLimit, "the policy", func(ctx context.Context) error {
		_, err := s.kube.Run(ctx, user, "create", "--dry-run=server", "--filename=-", "--namespace="+s.name)
		if err == nil || !strings.Contains(err.Error()+kube.Said(err), "range") {
			return fmt.Errorf("a user of its own is answered %v", err)
		}
		return nil
	})
	s.must(s.kube.Apply(s.ctx, s.name, strictPod("strict", "")))
	s.succeeded("strict")
}

// TestPodsJoinWhateverTheirNameAndResolver: with the node's resolver, with one that nobody answers at, and under the longest
// kind of name; plain init containers use the cache as well, on a port of the CacheCluster's choice.
func TestPodsJoinWhateverTheirNameAndResolver(t *testing.T) {
	s := newSpace(t, "resolver")
	s.must(s.kube.Apply(s.ctx, s.name, cacheCluster("web", `{"caches":{"sessions":{}},"sidecar":{"http":{"port":7085}}}`)))
	long := "step-" + strings.Repeat("of-a-workflow-", 7) + "1"
	pods := map[string]string{
		"node-resolver": `"dnsPolicy":"Default",`,
		"no-resolver":   `"dnsPolicy":"None","dnsConfig":{"nameservers":["203.0.113.1"]},`,
		long:            "",
		"init": `"initContainers":[{"name":"before","image":"sidegrid.dev/sessions:0.1.0","args":["once"],
		  "securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}],`,
	}
	for name, more := range pods {
		s.must(s.kube.Apply(s.ctx, s.name, strictPod(name, more)))
	}
	for name := range pods {
		s.succeeded(name)
	}
}

// TestSidecarHasNoTokenOfItsApp: the API server mounts the app's API token into each container that has nothing at its
// place, again after the webhook has added one.
func TestSidecarHasNoTokenOfItsApp(t *testing.T) {
	s := newSpace(t, "token")
	s.must(s.kube.Apply(s.ctx, s.name, cacheCluster("web", withCache(`{}`))))
	s.must(s.kube.Apply(s.ctx, s.name, strictPod("pod", "")))
	var pod struct {
		Spec struct {
			Containers, InitContainers []struct {
				Name         string
				VolumeMounts []struct{ Name, MountPath string }
			}
		} `json:"spec"`
	}
	s.must(s.kube.Get(s.ctx, &pod, "pod", "pod", "--namespace="+s.name))
	const place = "/var/run/secrets/kubernetes.io/serviceaccount"
	at := map[string]string{}
	for _, container := range append(pod.Spec.Containers, pod.Spec.InitContainers...) {
		for _, mount := range container.VolumeMounts {
			if mount.MountPath == place {
				at[container.Name] += mount.Name
			}
		}
	}
	if at["sidegrid"] != "sidegrid-no-token" {
		t.Errorf("the sidecar has %q at %s", at["sidegrid"], place)
	}
	if !strings.HasPrefix(at["app"], "kube-api-access-") {
		t.Errorf("the app has %q, so nothing is shown", at["app"])
	}
}

// succeeded waits until a pod has ended well; one that has failed ends the test at once.
func (s *space) succeeded(name string) {
	s.t.Helper()
	failed := false
	s.until(startLimit, "the end of "+name, func(ctx context.Context) error {
		var pod kube.Pod
		if err := s.kube.Get(ctx, &pod, "pod", name, "--namespace="+s.name); err != nil {
			return err
		}
		failed = pod.Status.Phase == "Failed"
		if failed || pod.Status.Phase == "Succeeded" {
			return nil
		}
		return fmt.Errorf("it is %s", pod.Status.Phase)
	})
	if failed {
		s.t.Fatalf("%s failed", name)
	}
}
