// Package app speaks to the example web service (deploy/examples/sessions) in the tests' pods.
package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Port is where the service listens in its pods.
const Port = 8080

// callLimit bounds one call. The service itself repeats what its cache refuses for five seconds.
const callLimit = 8 * time.Second

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// Client calls pods. It reaches addresses of the cluster's own range and no others: a request that strayed would go
// out by the machine's default route.
type Client struct {
	all  netip.Prefix
	http *http.Client
}

// NewClient is a client for pods in this range, such as `10.99.0.0/16`.
func NewClient(all netip.Prefix) (*Client, error) {
	if !all.Addr().IsPrivate() {
		return nil, fmt.Errorf("%s is no private range", all)
	}
	c := &Client{all: all}
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	c.http = &http.Client{
		Timeout: callLimit,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     10 * time.Second,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if err := c.Allowed(address); err != nil {
					return nil, err
				}
				return dialer.DialContext(ctx, network, address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Allowed refuses an address (`host:port`) outside the range.
func (c *Client) Allowed(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s is no address of a pod: %w", address, err)
	}
	if !c.all.Contains(at.Addr()) {
		return fmt.Errorf("%s is outside the cluster's range %s", address, c.all)
	}
	return nil
}

// Session is one that a copy of the service has acknowledged.
type Session struct {
	User string
	// Cookie is its id.
	Cookie string
}

// Refused is an answer other than the one asked for.
type Refused struct {
	Status int
	Body   string
}

func (r *Refused) Error() string { return fmt.Sprintf("%d: %s", r.Status, strings.TrimSpace(r.Body)) }

// Login makes a session at the pod with this address.
func (c *Client) Login(ctx context.Context, podIP, user string) (Session, error) {
	response, body, err := c.get(ctx, podIP, "/login?user="+url.QueryEscape(user), "")
	if err != nil {
		return Session{}, err
	}
	for _, cookie := range response.Cookies() {
		if response.StatusCode == http.StatusSeeOther && cookie.Name == "session" {
			return Session{User: user, Cookie: cookie.Value}, nil
		}
	}
	return Session{}, &Refused{response.StatusCode, body}
}

// Read gives the user of a session as the pod with this address knows it. A *Refused of 401: it knows none.
func (c *Client) Read(ctx context.Context, podIP, cookie string) (string, error) {
	response, body, err := c.get(ctx, podIP, "/session", cookie)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", &Refused{response.StatusCode, body}
	}
	var session struct {
		User string `json:"user"`
	}
	if err := json.Unmarshal([]byte(body), &session); err != nil {
		return "", fmt.Errorf("%s: %w", body, err)
	}
	return session.User, nil
}

// Cluster is what a sidecar says of its cluster.
type Cluster struct {
	Member struct {
		Name          string `json:"name"`
		Participation string `json:"participation"`
		Ready         bool   `json:"ready"`
		Reason        string `json:"reason"`
	} `json:"member"`
	View *struct {
		Number  uint64 `json:"number"`
		Members []struct {
			ID                      string `json:"id"`
			Name                    string `json:"name"`
			Site                    string `json:"site"`
			Rack                    string `json:"rack"`
			Machine                 string `json:"machine"`
			DataAddress             string `json:"dataAddress"`
			FailureDetectionAddress string `json:"failureDetectionAddress"`
			Suspected               bool   `json:"suspected"`
		} `json:"members"`
	} `json:"view"`
	Health struct {
		RegistryOk      bool `json:"registryOk"`
		UnderReplicated int  `json:"underReplicatedGroups"`
	} `json:"health"`
}

// Cluster asks the sidecar of the pod with this address.
func (c *Client) Cluster(ctx context.Context, podIP string) (*Cluster, error) {
	response, body, err := c.get(ctx, podIP, "/cluster", "")
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, &Refused{response.StatusCode, body}
	}
	cluster := new(Cluster)
	return cluster, json.Unmarshal([]byte(body), cluster)
}

func (c *Client) get(ctx context.Context, podIP, path, cookie string) (*http.Response, string, error) {
	host := net.JoinHostPort(podIP, fmt.Sprint(Port))
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+host+path, nil)
	if err != nil {
		return nil, "", err
	}
	if cookie != "" {
		request.AddCookie(&http.Cookie{Name: "session", Value: cookie})
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response, string(body), err
}
