package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// fakeCache answers the part of the cache's contract that the service uses, from a map.
type fakeCache struct {
	mu      sync.Mutex
	entries map[string]string
	done    map[string]bool // Idempotency-Keys that were applied
	// loseAnswers makes this many writes happen and then be answered as unknown.
	loseAnswers int
	// refuse makes this many requests be refused, nothing applied.
	refuse int
	calls  int
}

// fakeCluster is what it says of the cluster.
const fakeCluster = `{"name":"fake"}`

func newFake() *fakeCache { return &fakeCache{entries: map[string]string{}, done: map[string]bool{}} }

func (f *fakeCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if r.Method == "GET" && r.URL.Path == "/v1/cluster" {
		_, _ = io.WriteString(w, fakeCluster)
		return
	}
	key, found := strings.CutPrefix(r.URL.Path, "/v1/caches/sessions/entries/")
	if !found {
		refuse(w, 404, "no-such-cache", false, "no")
		return
	}
	if f.refuse > 0 {
		f.refuse--
		refuse(w, 503, "no-lease", true, "no")
		return
	}
	once := r.Header.Get("Idempotency-Key")
	if r.Method != "GET" && once == "" {
		refuse(w, 400, "bad-header", false, "no")
		return
	}
	status, body := f.apply(r, key, once)
	if f.loseAnswers > 0 && r.Method != "GET" {
		f.loseAnswers--
		refuse(w, 503, "timeout", true, "unknown")
		return
	}
	if status == 404 || status == 412 {
		refuse(w, status, map[int]string{404: "absent", 412: "condition-failed"}[status], false, "no")
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// apply does a request once per Idempotency-Key; a repeated one is answered as if it had just been done.
func (f *fakeCache) apply(r *http.Request, key, once string) (int, string) {
	again := f.done[once]
	if once != "" {
		f.done[once] = true
	}
	counter := strings.HasSuffix(key, "/increment")
	key = strings.TrimSuffix(key, "/increment")
	value, there := f.entries[key]
	switch {
	case r.Method == "PUT" && there && !again:
		return 412, ""
	case r.Method == "PUT":
		body, _ := io.ReadAll(r.Body)
		f.entries[key] = string(body)
		return 201, ""
	case counter:
		number, _ := strconv.Atoi(value)
		by, _ := strconv.Atoi(r.FormValue("by"))
		if !again {
			number += by
		}
		f.entries[key] = strconv.Itoa(number)
		return 200, strconv.Itoa(number)
	case !there && !(r.Method == "DELETE" && again):
		return 404, ""
	case r.Method == "GET":
		return 200, value
	case r.Method == "DELETE":
		delete(f.entries, key)
	}
	return 204, ""
}

func refuse(w http.ResponseWriter, status int, word string, retryable bool, applied string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"https://sidegrid.dev/problems/%s","title":%q,"status":%d,"retryable":%t,"applied":%q}`,
		word, word, status, retryable, applied)
}
