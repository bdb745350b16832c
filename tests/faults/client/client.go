// Package client speaks the cache's HTTP contract for the tests, exactly and without retries: what a test did not ask
// for must not happen behind its back.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Dial connects to an address; a node's DialContext of package netns, or one that allows loopback only.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

// Timeout is how long a request may take; the cache's own deadline is five seconds.
const Timeout = 10 * time.Second

// Client asks one member.
type Client struct {
	base string
	http *http.Client
}

// New asks the member that `dial` reaches at `address` (ip:port). At most `connections` are open at once.
func New(dial Dial, address string, connections int) *Client {
	transport := &http.Transport{
		DialContext:         dial,
		MaxConnsPerHost:     connections,
		MaxIdleConnsPerHost: connections,
		DisableCompression:  true,
	}
	return &Client{base: "http://" + address, http: &http.Client{Transport: transport, Timeout: Timeout}}
}

// Close ends the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Problem is the error document of an answer.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Retryable bool   `json:"retryable"`
	Applied   string `json:"applied"`
}

// Reply is an answer.
type Reply struct {
	Status  int
	Header  http.Header
	Body    []byte
	Problem *Problem // when the answer is a problem document
}

// ETag is the entry's version as the answer shows it, quotes included; "" when it shows none.
func (r *Reply) ETag() string { return r.Header.Get("ETag") }

// String is the answer in one line, for messages.
func (r *Reply) String() string {
	if r.Problem != nil {
		return fmt.Sprintf("%d %s (applied: %s, retryable: %t) %s", r.Status, r.Problem.Type, r.Problem.Applied, r.Problem.Retryable, r.Problem.Detail)
	}
	return fmt.Sprintf("%d, %d bytes", r.Status, len(r.Body))
}

// Call is one request.
type Call struct {
	Method string
	Path   string // escaped, with the query
	Body   []byte
	Header http.Header
}

// Do makes a request once.
//
// # Errors
// When no whole answer came back; NotSent tells whether the request can't have reached the member.
func (c *Client) Do(ctx context.Context, call Call) (*Reply, error) {
	var body io.Reader
	if call.Body != nil {
		// Hidden from net/http, which would otherwise know how to send it again by itself.
		body = struct{ io.Reader }{bytes.NewReader(call.Body)}
	}
	request, err := http.NewRequestWithContext(ctx, call.Method, c.base+call.Path, body)
	if err != nil {
		return nil, err
	}
	request.ContentLength = int64(len(call.Body))
	for name, values := range call.Header {
		request.Header[name] = values
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	reply := &Reply{Status: response.StatusCode, Header: response.Header}
	if reply.Body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == "application/problem+json" {
		reply.Problem = new(Problem)
		if err := json.Unmarshal(reply.Body, reply.Problem); err != nil {
			return nil, fmt.Errorf("a problem document that can't be read: %w: %q", err, reply.Body)
		}
	}
	return reply, nil
}

// NotSent says whether an error of Do is certain to mean that the member never saw the request: no connection came about.
func NotSent(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "dial"
}

// EntryPath is the path of an entry.
func EntryPath(cache, key string) string {
	return "/v1/caches/" + url.PathEscape(cache) + "/entries/" + url.PathEscape(key)
}

// Get reads an entry.
func (c *Client) Get(ctx context.Context, cache, key string) (*Reply, error) {
	return c.Do(ctx, Call{Method: "GET", Path: EntryPath(cache, key)})
}

// Put stores an entry. `headers` are pairs of name and value.
func (c *Client) Put(ctx context.Context, cache, key, value string, headers ...string) (*Reply, error) {
	return c.Do(ctx, Call{Method: "PUT", Path: EntryPath(cache, key), Body: []byte(value), Header: pairs(headers)})
}

// Delete removes an entry.
func (c *Client) Delete(ctx context.Context, cache, key string, headers ...string) (*Reply, error) {
	return c.Do(ctx, Call{Method: "DELETE", Path: EntryPath(cache, key), Header: pairs(headers)})
}

// Increment adds to a counter; an absent one starts at 0.
func (c *Client) Increment(ctx context.Context, cache, key string, by int64) (*Reply, error) {
	path := EntryPath(cache, key) + "/increment?initial=0&by=" + strconv.FormatInt(by, 10)
	return c.Do(ctx, Call{Method: "POST", Path: path})
}

func pairs(headers []string) http.Header {
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	return header
}
