package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/e2e/kube"
)

const (
	dataPort             = 7800
	failureDetectionPort = 57800
	registryPort         = 8443
	// strangerLimit bounds one connection. A member that takes a peer in says nothing for a while and then closes.
	strangerLimit = 15 * time.Second
)

// caller is somebody with a certificate, or without one.
type caller struct {
	who    string
	leaves []tls.Certificate
	taken  bool
}

// callers are strangers of all kinds and one that is right, or the strangers would show nothing. All name a pod of ours.
func callers(t *testing.T, pod string, ours, theirs, namesake *authority) []caller {
	t.Helper()
	strange, err := strangeAuthority(ours)
	if err != nil {
		t.Fatal(err)
	}
	all := []caller{{who: "nobody"}}
	for _, one := range []struct {
		who     string
		by      *authority
		cluster string
		taken   bool
	}{
		{"a member of another cluster", theirs, theirs.cluster, false},
		{"a member of a cluster of the same name in another namespace", namesake, namesake.cluster, false},
		{"another cluster's authority in our name", theirs, ours.cluster, false},
		{"our authority for another cluster", ours, theirs.cluster, false},
		{"an authority that nobody knows", strange, ours.cluster, false},
		{"a member of ours", ours, ours.cluster, true},
	} {
		leaf, err := one.by.leaf(one.cluster, pod)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, caller{one.who, []tls.Certificate{leaf}, one.taken})
	}
	return all
}

// TestStrangersAreRefused: at the members' ports and at the operator's document, whoever is not of this cluster.
func TestStrangersAreRefused(t *testing.T) {
	s := newSpace(t, "strangers")
	s.example("sessions/kubernetes.yaml")
	// A second cluster in the same namespace, without members.
	s.must(s.kube.Apply(s.ctx, s.name, cacheCluster("other", withCache(`{}`))))
	namesake := newSpace(t, "strangers-too")
	s.must(s.kube.Apply(s.ctx, namesake.name, cacheCluster("web", withCache(`{}`))))
	pods := s.settled("web", 3)
	s.until(settleLimit, "the other clusters' authorities", func(ctx context.Context) error {
		other, err := s.cacheCluster(ctx, "other")
		if err != nil {
			return err
		}
		same, err := namesake.cacheCluster(ctx, "web")
		if err != nil {
			return err
		}
		_, err = s.kube.Run(ctx, "", "get", "secret", "authority-"+other.Metadata.UID, "authority-"+same.Metadata.UID, "--namespace="+operatorNamespace)
		return err
	})
	// Handshakes that fail are told by the member, at whatever level it likes.
	s.announced = append(s.announced, "handshake", "certificate")
	operators, err := s.operatorPods(s.ctx)
	s.must(err)
	pod := fmt.Sprintf("%s/web/%s/%s", s.name, pods[0].Metadata.Name, pods[0].Metadata.UID)
	for _, one := range callers(t, pod, s.authorityOf("web"), s.authorityOf("other"), namesake.authorityOf("web")) {
		for _, port := range []int{dataPort, failureDetectionPort} {
			if alert := s.refusedBy(pods[0].Status.PodIP, port, one.leaves); (alert == "") != one.taken {
				t.Errorf("%s at port %d: alert %q", one.who, port, alert)
			}
		}
		status, said := s.document(operators[0].Status.PodIP, one.leaves)
		if taken := status == http.StatusOK; taken != one.taken {
			t.Errorf("%s gets the document's answer %d %.200s", one.who, status, said)
		}
	}
	s.must(s.agree(s.ctx, pods))
}

// refusedBy connects to a member's port and gives the TLS alert that it answers with; "" when it sends none, which is as
// far as a caller who says nothing gets in.
func (s *space) refusedBy(podIP string, port int, leaves []tls.Certificate) string {
	s.t.Helper()
	address := net.JoinHostPort(podIP, fmt.Sprint(port))
	s.must(s.client.Allowed(address))
	dialer := &net.Dialer{Timeout: strangerLimit}
	plain, err := dialer.DialContext(s.ctx, "tcp", address)
	s.must(err)
	defer plain.Close()
	s.must(plain.SetDeadline(time.Now().Add(strangerLimit)))
	// Who the member is is not this test's question; what it makes of the caller is.
	connection := tls.Client(plain, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, GetClientCertificate: showing(leaves),
	})
	// With TLS 1.3 the refusal comes after the caller's end of the handshake.
	if err = connection.HandshakeContext(s.ctx); err == nil {
		_, err = connection.Read(make([]byte, 1))
	}
	if err != nil && strings.Contains(err.Error(), "remote error: tls") {
		return err.Error()
	}
	if !connection.ConnectionState().HandshakeComplete {
		s.t.Fatalf("%s: no handshake and no alert, so nothing is shown: %v", address, err)
	}
	return ""
}

// showing sends a certificate whether or not the server says that it knows its authority.
func showing(leaves []tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(leaves) == 0 {
			return &tls.Certificate{}, nil
		}
		return &leaves[0], nil
	}
}

// document asks an operator for the cluster's document and gives status and body; 0 and why when there was no answer.
func (s *space) document(podIP string, leaves []tls.Certificate) (int, string) {
	return s.ask("GET", podIP, "/v1/document", leaves, "", nil)
}

func (s *space) ask(method, podIP, path string, leaves []tls.Certificate, token string, body any) (int, string) {
	s.t.Helper()
	address := net.JoinHostPort(podIP, fmt.Sprint(registryPort))
	s.must(s.client.Allowed(address))
	text, err := json.Marshal(body)
	s.must(err)
	request, err := http.NewRequestWithContext(s.ctx, method, "https://"+address+path, bytes.NewReader(text))
	s.must(err)
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: showing(leaves)}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: strangerLimit}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(said)
}

// TestTokensOfOthersDoNotEnrol: a token for another audience, one that is bound to no pod, one of a pod without the
// label, and none; each is refused before anything is signed.
func TestTokensOfOthersDoNotEnrol(t *testing.T) {
	s := newSpace(t, "tokens")
	s.example("sessions/kubernetes.yaml", "        sidegrid.dev/cluster: web # all that a pod needs\n", "")
	plain := s.ready("web", 3)[0]
	operators, err := s.operatorPods(s.ctx)
	s.must(err)
	bound := []string{"--bound-object-kind=Pod", "--bound-object-name=" + plain.Metadata.Name}
	token := func(arguments ...string) string {
		return strings.TrimSpace(s.run(append([]string{"create", "token", "default"}, arguments...)...))
	}
	cases := map[string]string{
		"no token":                   "",
		"no real token":              "abc.def.ghi",
		"another audience":           token(append(bound, "--audience=other")...),
		"the API server's audience":  token(bound...),
		"bound to no pod":            token("--audience=sidegrid"),
		"of a pod without the label": token(append(bound, "--audience=sidegrid")...),
	}
	enrol := map[string]any{"member": someMember, "request": "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"}
	for who, token := range cases {
		status, said := s.ask("POST", operators[0].Status.PodIP, "/v1/enrol", nil, token, enrol)
		if status != http.StatusUnauthorized && status != http.StatusForbidden || !strings.Contains(said, "reason") {
			t.Errorf("%s: %d %.200s", who, status, said)
		}
	}
	// Of this pod as well: signed anew it is known, and lacks the label; signed for a time that is over it is not known.
	mine := cases["of a pod without the label"]
	for ago, wanted := range map[time.Duration]int{0: http.StatusForbidden, 2 * tokenLife: http.StatusUnauthorized} {
		status, said := s.ask("POST", operators[0].Status.PodIP, "/v1/enrol", nil, s.issuedAt(mine, ago), enrol)
		if status != wanted {
			t.Errorf("a token that was issued %s ago: %d instead of %d: %.200s", ago, status, wanted, said)
		}
	}
}

// TestOperatorMayDoLittle: what its account may not do, as the API server sees it.
func TestOperatorMayDoLittle(t *testing.T) {
	account := "--as=system:serviceaccount:" + operatorNamespace + ":sidegrid-operator"
	can := func(arguments ...string) bool {
		out, err := shared.kube.Run(t.Context(), "", append([]string{"auth", "can-i", account}, arguments...)...)
		var failed *kube.Error
		if err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out)) == "yes"
	}
	for _, not := range [][]string{
		{"get", "secrets", "--namespace=default"}, {"list", "secrets", "--all-namespaces"},
		{"delete", "configmaps", "--namespace=default"}, {"create", "pods/exec", "--namespace=default"},
		{"create", "pods", "--namespace=default"}, {"delete", "pods", "--namespace=default"},
		{"patch", "mutatingwebhookconfigurations/other"}, {"patch", "nodes"}, {"escalate", "clusterroles"},
		{"delete", "cacheclusters.sidegrid.dev", "--namespace=default"},
	} {
		if can(not...) {
			t.Errorf("it may %v", not)
		}
	}
	for _, yes := range [][]string{
		{"get", "secrets", "--namespace=" + operatorNamespace}, {"watch", "cacheclusters.sidegrid.dev", "--all-namespaces"},
		{"create", "tokenreviews.authentication.k8s.io"},
	} {
		if !can(yes...) {
			t.Errorf("it may not %v, so the refusals above show nothing", yes)
		}
	}
}
