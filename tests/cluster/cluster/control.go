package cluster

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// makeKeys makes every key, certificate and kubeconfig of the cluster.
func (c *Cluster) makeKeys() error {
	a, err := newAuthority(c.pki())
	if err != nil {
		return err
	}
	control := net.IP(c.network.control().AsSlice())
	service := net.IP(c.network.address(64, 1).AsSlice())
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	serving := a.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, names, []net.IP{control, service})
	failed := errors.Join(serving, a.signingKey())
	masters := []string{"system:masters"}
	people := map[string]pkix.Name{
		"admin":                   {CommonName: "admin", Organization: masters},
		"kubelet-client":          {CommonName: "kube-apiserver-kubelet-client", Organization: masters},
		"coredns":                 {CommonName: "coredns", Organization: masters},
		"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
		"kube-scheduler":          {CommonName: "system:kube-scheduler"},
		"kube-proxy":              {CommonName: "system:kube-proxy"},
	}
	for _, node := range c.Nodes() {
		people[node] = pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
	}
	for name, subject := range people {
		failed = errors.Join(failed, a.issue(name, subject, nil, nil), a.kubeconfig(c.configOf(name), c.server(), name))
	}
	return failed
}

func (c *Cluster) pki() string                 { return filepath.Join(c.folder, "pki") }
func (c *Cluster) configOf(name string) string { return filepath.Join(c.folder, name+".kubeconfig") }
func (c *Cluster) server() string              { return fmt.Sprintf("https://%s:6443", c.network.control()) }

// startAPI starts etcd and the API server and waits until it answers.
func (c *Cluster) startAPI(ctx context.Context, s starter) error {
	etcd := c.network.etcd()
	_, err := s.start("etcd", append([]string{c.program("etcd")}, flags(
		// The cluster's life is shorter than the machine's: nothing needs to be on the disk.
		"--unsafe-no-fsync --log-level warn --data-dir "+filepath.Join(c.folder, "etcd"),
		fmt.Sprintf("--listen-client-urls http://%[1]s:2379 --advertise-client-urls http://%[1]s:2379", etcd),
		fmt.Sprintf("--listen-peer-urls http://%[1]s:2380 --initial-advertise-peer-urls http://%[1]s:2380", etcd),
		fmt.Sprintf("--initial-cluster default=http://%s:2380", etcd),
	)...)...)
	if err != nil {
		return err
	}
	_, err = s.start("kube-apiserver", append([]string{c.program("kube-apiserver")}, flags(
		fmt.Sprintf("--etcd-servers http://%s:2379 --secure-port 6443", etcd),
		fmt.Sprintf("--bind-address %[1]s --advertise-address %[1]s", c.network.control()),
		"--tls-cert-file pki/apiserver.crt --tls-private-key-file pki/apiserver.key --client-ca-file pki/ca.crt",
		"--service-account-key-file pki/sa.pub --service-account-signing-key-file pki/sa.key",
		"--service-account-issuer https://kubernetes.default.svc.cluster.local --authorization-mode Node,RBAC",
		"--service-cluster-ip-range "+c.network.services().String(),
		// There is no kube-proxy beside the API server: it calls webhooks at their pods' addresses.
		"--enable-aggregator-routing --enable-admission-plugins NodeRestriction --allow-privileged",
		"--kubelet-preferred-address-types InternalIP --kubelet-client-certificate pki/kubelet-client.crt",
		"--kubelet-client-key pki/kubelet-client.key",
	)...)...)
	if err != nil {
		return err
	}
	return until(ctx, 100*time.Millisecond, "the API server isn't ready", func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server()+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := c.api.client.Do(request)
		if err != nil {
			return false, err
		}
		return response.StatusCode == http.StatusOK, errors.Join(errors.New(response.Status), response.Body.Close())
	})
}

// startControllers starts what works on the API server's objects.
func (c *Cluster) startControllers(s starter) error {
	_, err := s.start("kube-controller-manager", append([]string{c.program("kube-controller-manager")}, flags(
		"--kubeconfig "+c.configOf("kube-controller-manager"),
		"--service-account-private-key-file pki/sa.key --root-ca-file pki/ca.crt --use-service-account-credentials",
		"--cluster-signing-cert-file pki/ca.crt --cluster-signing-key-file pki/ca.key --leader-elect=false",
		fmt.Sprintf("--bind-address %s --allocate-node-cidrs=false", c.network.control()),
		// A node that is cut off is seen sooner than by default, so that a test needn't wait for most of a minute.
		"--node-monitor-period 2s --node-monitor-grace-period 20s",
	)...)...)
	if err != nil {
		return err
	}
	_, err = s.start("kube-scheduler", append([]string{c.program("kube-scheduler")}, flags(
		"--kubeconfig "+c.configOf("kube-scheduler")+" --leader-elect=false",
		fmt.Sprintf("--bind-address %s", c.network.control()),
	)...)...)
	return err
}

// startDNS starts the DNS server on the bridge and makes the service by which pods find it. It knows the cluster's own
// names and no others: nothing of a test is to reach the outside.
func (c *Cluster) startDNS(ctx context.Context, s starter) error {
	octets := strings.Split(c.network.control().String(), ".")
	text := fmt.Sprintf(`.:53 {
	bind %s
	errors
	kubernetes cluster.local %s.%s.in-addr.arpa {
		kubeconfig %s sidegrid
		ttl 5
	}
}
`, c.network.control(), octets[1], octets[0], c.configOf("coredns"))
	path := filepath.Join(c.folder, "Corefile")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	if _, err := s.start("coredns", c.program("coredns"), "-conf", path); err != nil {
		return err
	}
	type object = map[string]any
	ports := []object{{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}}
	err := c.api.call(ctx, http.MethodPost, "/api/v1/namespaces/kube-system/services", object{
		"apiVersion": "v1", "kind": "Service",
		"metadata": object{"name": "kube-dns"},
		"spec":     object{"clusterIP": c.network.dns().String(), "ports": ports},
	}, nil)
	if err != nil {
		return err
	}
	return c.api.call(ctx, http.MethodPost, "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata":    object{"name": "kube-dns-1", "labels": object{"kubernetes.io/service-name": "kube-dns"}},
		"addressType": "IPv4", "ports": ports,
		"endpoints": []object{{"addresses": []string{c.network.control().String()}, "conditions": object{"ready": true}}},
	}, nil)
}
