package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Cache talks to one cache of the sidecar beside this service, in plain HTTP over localhost. It needs no library:
// everything it knows about the cache is in this file.
type Cache struct {
	entries string // http://127.0.0.1:7080/v1/caches/sessions/entries/
	http    *http.Client
	// patience bounds how long one call may take, retries included.
	patience time.Duration
}

// Answers that are not the value asked for.
var (
	// ErrAbsent: there is no such key, or not any more.
	ErrAbsent = errors.New("absent")
	// ErrExists: the key is there already, so a create-if-absent changed nothing.
	ErrExists = errors.New("exists already")
)

// maxAnswer bounds what is read of an answer, in bytes. Sessions are far smaller.
const maxAnswer = 1 << 20

// NewCache is a client of the cache `name` at the sidecar's `base` URL.
func NewCache(base, name string) *Cache {
	return &Cache{
		entries:  strings.TrimRight(base, "/") + "/v1/caches/" + url.PathEscape(name) + "/entries/",
		http:     &http.Client{Timeout: 2 * time.Second},
		patience: 5 * time.Second,
	}
}

// Create stores a value under a key that must not be there yet.
func (c *Cache) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	header := http.Header{"If-None-Match": {"*"}, "Content-Type": {"application/json"}}
	_, err := c.call(ctx, "PUT", key, url.Values{"ttl": {seconds(ttl)}}, header, value)
	return err
}

// Get reads a value; ErrAbsent when there is none.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	return c.call(ctx, "GET", key, nil, nil, nil)
}

// Extend gives an entry a new time to live and leaves its value alone.
func (c *Cache) Extend(ctx context.Context, key string, ttl time.Duration) error {
	_, err := c.call(ctx, "PATCH", key, url.Values{"ttl": {seconds(ttl)}}, nil, nil)
	return err
}

// Delete removes a key; ErrAbsent when it was not there.
func (c *Cache) Delete(ctx context.Context, key string) error {
	_, err := c.call(ctx, "DELETE", key, nil, nil, nil)
	return err
}

// Increment adds to a counter that all copies of this service share, and gives its new value. An absent one starts at 0.
func (c *Cache) Increment(ctx context.Context, key string, by int64) (int64, error) {
	query := url.Values{"by": {strconv.FormatInt(by, 10)}, "initial": {"0"}}
	body, err := c.call(ctx, "POST", key+"/increment", query, nil, nil)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
}

// call makes a request and repeats it while the cache says, or the connection suggests, that a later try may succeed.
// The Idempotency-Key stays the same over all tries, so a write whose answer was lost is still applied once.
func (c *Cache) call(ctx context.Context, method, path string, query url.Values, header http.Header, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	once := newID()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		answer, again, err := c.try(ctx, method, path, query, header, body, once)
		if err == nil || !again {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// try makes the request once; again says whether the same request may succeed a little later.
func (c *Cache) try(ctx context.Context, method, path string, query url.Values, header http.Header, body []byte, once string) (answer []byte, again bool, err error) {
	// Keys here are hexadecimal ids and names like "hits"; a key with other characters is escaped by the caller.
	request, err := http.NewRequestWithContext(ctx, method, c.entries+path+"?"+query.Encode(), strings.NewReader(string(body)))
	if err != nil {
		return nil, false, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if method != "GET" {
		request.Header.Set("Idempotency-Key", once)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, true, fmt.Errorf("the cache at %s can't be reached: %w", c.entries, err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, true, err
	case response.StatusCode < 300:
		return answer, false, nil
	case response.StatusCode == http.StatusNotFound && !strings.HasSuffix(problem(answer).Type, "no-such-cache"):
		return nil, false, ErrAbsent
	case response.StatusCode == http.StatusPreconditionFailed:
		return nil, false, ErrExists
	}
	told := problem(answer)
	return nil, told.Retryable, fmt.Errorf("the cache refused: %s (%d, applied: %s) %s", told.Title, response.StatusCode, told.Applied, told.Detail)
}

// clusterState is the sidecar's own account of the cluster: view, members, health.
func clusterState(ctx context.Context, base string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", strings.TrimRight(base, "/")+"/v1/cluster", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the sidecar at %s can't be reached: %w", base, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the sidecar says %d: %s", response.StatusCode, body)
	}
	return body, err
}

// Problem is the cache's error format (RFC 9457).
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Retryable bool   `json:"retryable"`
	// Applied is "no" when the request certainly changed nothing, "unknown" when it may have.
	Applied string `json:"applied"`
}

func problem(body []byte) Problem {
	var told Problem
	// A body that is no problem document leaves it empty: not retryable.
	_ = json.Unmarshal(body, &told)
	return told
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) + "s" }

// newID is 128 random bits in hexadecimal.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process rather than give weak randomness
	return hex.EncodeToString(id[:])
}
