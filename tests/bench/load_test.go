package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLoadCountsAndChecksAnswers: a wrong answer ends a run as an error, or the figures would be of anything.
func TestLoadCountsAndChecksAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "PUT":
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
		case r.URL.Path == "/absent":
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = io.WriteString(w, "12345")
		}
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	load, err := Get(address, "/there", 5, 50*time.Millisecond)
	if err != nil || load.Requests == 0 || load.PerSecond() <= 0 {
		t.Errorf("%+v, %v", load, err)
	}
	if _, err := Get(address, "/there", 6, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "5 bytes instead of 6") {
		t.Errorf("a wrong length passes: %v", err)
	}
	if _, err := Get(address, "/absent", 5, 50*time.Millisecond); err == nil {
		t.Error("a 404 passes")
	}
	if err := Fill(address, "c", 100, []byte("value")); err != nil {
		t.Error(err)
	}
}
