package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// api is a small client of the API server, as the administrator.
type api struct {
	server string
	client *http.Client
}

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

func newAPI(server, pki string) (*api, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return nil, errors.New("the cluster's ca.crt has no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}}
	return &api{server: server, client: &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// call sends an object, or nothing when it is nil, and reads the answer into another unless that is nil.
func (a *api) call(ctx context.Context, method, path string, object, answer any) error {
	var body io.Reader
	if object != nil {
		text, err := json.Marshal(object)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.server+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(text))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// nodesReady gives for each node whether the API server holds it to be ready.
func (a *api) nodesReady(ctx context.Context) (map[string]bool, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := a.call(ctx, http.MethodGet, "/api/v1/nodes", nil, &list); err != nil {
		return nil, err
	}
	ready := map[string]bool{}
	for _, node := range list.Items {
		ready[node.Metadata.Name] = false
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" {
				ready[node.Metadata.Name] = condition.Status == "True"
			}
		}
	}
	return ready, nil
}
