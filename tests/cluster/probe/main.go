// Command probe is a container to look out of a pod with: an HTTP server that looks up names and fetches pages for
// whoever asks. Its answers are short, and it takes only what a test needs.
//
//	probe PORT
//	GET /            the word "ready"
//	GET /lookup?name=NAME   the addresses, one a line
//	GET /fetch?url=URL      the first bytes of what is there
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// patience bounds one look-up or fetch.
const patience = 3 * time.Second

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: probe PORT")
		os.Exit(64)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-ended; os.Exit(0) }()

	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ready") })
	http.HandleFunc("GET /lookup", lookup)
	http.HandleFunc("GET /fetch", fetch)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+os.Args[1], nil))
	os.Exit(1)
}

func lookup(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, r.FormValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, strings.Join(addresses, "\n"))
}

func fetch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.FormValue("url"), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	// Whoever asked sees a cut answer by its length; a copy that failed has nobody else to tell.
	_, _ = io.Copy(w, io.LimitReader(answer.Body, 4096))
}
