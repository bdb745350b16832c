// A cache client in Go, standard library only: time limits, retries that apply once, compare-and-set, fallback.
//
//	go run . add cart-7 book      append to a list that other processes append to as well
//	go run . count visits         count up exactly once, however often the request is sent
//	go run . read price-7         read, and go to the source when the cache can't answer
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	attempt  = time.Second     // one request; the sidecar is on this host, so a longer wait means trouble
	budget   = 3 * time.Second // one operation with all its retries; shorter than what the user of the app waits for
	casTries = 100             // reads and writes of one compare-and-set loop
)

// ErrUnavailable says that the cache did not answer within the budget. A write may or may not have been applied.
var ErrUnavailable = errors.New("the cache is unavailable")

// Cache is one cache of the sidecar. It may be used by many goroutines.
type Cache struct {
	base   string
	client http.Client
}

// NewCache is the cache of this name behind the sidecar's URL.
func NewCache(base, name string) *Cache {
	return &Cache{base: base + "/v1/caches/" + name + "/entries/", client: http.Client{Timeout: attempt}}
}

// Answer is what the cache said.
type Answer struct {
	Status int
	ETag   string
	Body   []byte
}

type problem struct {
	Detail       string `json:"detail"`
	Retryable    bool   `json:"retryable"`
	RetryAfterMs int    `json:"retryAfterMs"`
}

// Do sends until there is an answer that is not worth a retry; every attempt carries the same idempotency key.
func (c *Cache) Do(ctx context.Context, method, key, suffix string, body []byte, header http.Header) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if header == nil {
		header = http.Header{}
	}
	if method != http.MethodGet {
		header.Set("Idempotency-Key", uuid7())
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		answer, err := c.once(ctx, method, c.base+url.PathEscape(key)+suffix, body, header)
		var after time.Duration
		switch {
		case err == nil && answer.Status < 500 && answer.Status != http.StatusTooManyRequests:
			return answer, nil
		case err == nil:
			var p problem
			_ = json.Unmarshal(answer.Body, &p)
			err = errors.New(p.Detail)
			if !p.Retryable {
				return answer, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			after = time.Duration(p.RetryAfterMs) * time.Millisecond
		}
		// Full jitter, so that many clients don't come back at one time.
		select {
		case <-time.After(max(after, mathrand.N(wait))):
		case <-ctx.Done():
			return Answer{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

func (c *Cache) once(ctx context.Context, method, url string, body []byte, header http.Header) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header = header
	response, err := c.client.Do(request)
	if err != nil { // refused, reset, no answer in time
		return Answer{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header.Get("ETag"), content}, err
}

// Get is the value and its version; both are empty when there is none.
func (c *Cache) Get(ctx context.Context, key string) (Answer, error) {
	answer, err := c.Do(ctx, http.MethodGet, key, "", nil, nil)
	if err != nil || answer.Status == http.StatusNotFound {
		return Answer{}, err
	}
	return answer, answer.expect(http.StatusOK)
}

// Update sets the key to change(value): decided at the key's primary, so no other writer's change is lost.
func (c *Cache) Update(ctx context.Context, key, ttl string, change func([]byte) ([]byte, error)) error {
	for range casTries {
		present, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		value, err := change(present.Body)
		if err != nil {
			return err
		}
		header := http.Header{"If-Match": {present.ETag}}
		if present.ETag == "" {
			header = http.Header{"If-None-Match": {"*"}}
		}
		answer, err := c.Do(ctx, http.MethodPut, key, "?ttl="+ttl, value, header)
		if err != nil {
			return err
		}
		if answer.Status != http.StatusPreconditionFailed { // else another writer came first; read again
			return answer.expect(http.StatusCreated, http.StatusNoContent)
		}
	}
	return fmt.Errorf("%s: other writers were faster every time", key)
}

// Increment adds to a counter and is its new value.
func (c *Cache) Increment(ctx context.Context, key string, by int64) (int64, error) {
	answer, err := c.Do(ctx, http.MethodPost, key, "/increment?by="+strconv.FormatInt(by, 10), nil, nil)
	if err == nil {
		err = answer.expect(http.StatusOK)
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(answer.Body), 10, 64)
}

// GetOr reads through: the app goes on without the cache, only slower.
func (c *Cache) GetOr(ctx context.Context, key string, source func() ([]byte, error)) ([]byte, error) {
	answer, err := c.Get(ctx, key)
	if err == nil && answer.ETag != "" {
		return answer.Body, nil
	}
	value, failed := source()
	switch {
	case failed != nil:
		return nil, failed
	case errors.Is(err, ErrUnavailable):
		fmt.Fprintln(os.Stderr, "without the cache:", err)
	case err != nil:
		return nil, err
	default:
		if _, err := c.Do(ctx, http.MethodPut, key, "?ttl=30s", value, nil); err != nil {
			fmt.Fprintln(os.Stderr, "not cached:", err)
		}
	}
	return value, nil
}

func (a Answer) expect(wanted ...int) error {
	for _, status := range wanted {
		if a.Status == status {
			return nil
		}
	}
	return fmt.Errorf("%d: %s", a.Status, a.Body)
}

// uuid7 is RFC 9562's version 7: its time tells the cache how old a retry is.
func uuid7() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	for i, ms := 0, time.Now().UnixMilli(); i < 6; i++ {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6], b[8] = b[6]&0x0f|0x70, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func main() {
	if err := run(context.Background(), append(os.Args[1:], "", "", "")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	cache := NewCache(or(os.Getenv("SIDEGRID_URL"), "http://127.0.0.1:7080"), or(os.Getenv("CACHE"), "default"))
	command, key, item := arguments[0], arguments[1], arguments[2]
	switch command {
	case "add":
		return cache.Update(ctx, key, "30m", func(value []byte) ([]byte, error) {
			items := []string{}
			if len(value) > 0 {
				if err := json.Unmarshal(value, &items); err != nil {
					return nil, err
				}
			}
			return json.Marshal(append(items, item))
		})
	case "count":
		value, err := cache.Increment(ctx, key, 1)
		if err == nil {
			fmt.Println(value)
		}
		return err
	case "read":
		value, err := cache.GetOr(ctx, key, func() ([]byte, error) { return []byte("from the source"), nil })
		if err == nil {
			fmt.Println(string(value))
		}
		return err
	}
	return errors.New("usage: add KEY ITEM | count KEY | read KEY")
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
