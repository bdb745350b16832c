package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
)

const (
	apiAddress = "127.0.0.1:7080"
	// memoryBound is how much a member may grow under what these tests do: the buffers of 2,000 idle connections and
	// some requests, and far less than the 100 MiB that are sent to it.
	memoryBound = 64 << 20
)

// served checks that a member still answers others.
func stillServes(t *testing.T, m *cluster.Member, during string) {
	t.Helper()
	for n := range 50 {
		if err := readAndWrite(m, fmt.Sprint("meanwhile-", n), n); err != nil {
			t.Fatalf("%s, %s does not serve others: %v", during, m.Name, err)
		}
	}
}

// grown checks that a member's memory has not grown past the bound.
func grown(t *testing.T, m *cluster.Member, before int64, by string) {
	t.Helper()
	now, err := m.RSS()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: memory went from %.1f to %.1f MB", by, float64(before)/1e6, float64(now)/1e6)
	if now-before > memoryBound {
		t.Errorf("%s: memory grew by %d bytes", by, now-before)
	}
}

// TestBadRequestsHarmNobodyElse (B-1).
func TestBadRequestsHarmNobodyElse(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 3, Settings: map[string]any{"http.headerTimeout": "2s", "http.bodyTimeout": "2s"}})
	m := c.Members[0]
	stillServes(t, m, "at first")
	before, err := m.RSS()
	c.Must(err)
	t.Run("a slow sender is cut off", func(t *testing.T) { slowSender(t, m) })
	t.Run("a body of 100 MiB is refused", func(t *testing.T) { hugeBody(t, m); grown(t, m, before, "100 MiB") })
	t.Run("2000 idle connections are borne", func(t *testing.T) { idleConnections(t, m, before) })
	t.Run("nonsense is answered", func(t *testing.T) { nonsense(t, m) })
	c.WaitFormed(c.Members...)
}

func dial(t *testing.T, m *cluster.Member) net.Conn {
	t.Helper()
	conn, err := m.Node.DialContext(context.Background(), "tcp4", apiAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// slowSender sends a request a byte at a time, head and body; its connection alone suffers.
func slowSender(t *testing.T, m *cluster.Member) {
	head := "PUT /v1/caches/sessions/entries/slow HTTP/1.1\r\nHost: " + apiAddress + "\r\nContent-Length: 1000\r\n\r\n"
	for part, quick := range map[string]string{"head": "", "body": head} {
		conn := dial(t, m)
		if _, err := io.WriteString(conn, quick); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			// Ends when the member answers or closes.
			_, _ = bufio.NewReader(conn).ReadString('\n')
		}()
		text := head + strings.Repeat("x", 1000)
		patience := time.After(30 * time.Second)
		for i := len(quick); ; i = min(i+1, len(text)-2) { // never whole
			select {
			case <-ended:
			case <-patience:
				t.Fatalf("a slow %s is borne for more than 30 s", part)
			case <-time.After(50 * time.Millisecond):
				_, _ = io.WriteString(conn, text[i:i+1]) // fails once the member has closed, which is what is waited for
				continue
			}
			break
		}
		stillServes(t, m, "after a slow "+part)
	}
}

// hugeBody sends 100 MiB with and without saying so before; both are refused, naming the limit.
func hugeBody(t *testing.T, m *cluster.Member) {
	const size = 100 << 20
	for _, framing := range []string{fmt.Sprintf("Content-Length: %d", size), "Transfer-Encoding: chunked"} {
		conn := dial(t, m)
		_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
		sent := make(chan int)
		go func() {
			_, _ = fmt.Fprintf(conn, "PUT /v1/caches/sessions/entries/huge HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", apiAddress, framing)
			block := []byte(strings.Repeat("x", 1<<20))
			if strings.Contains(framing, "chunked") {
				block = []byte(fmt.Sprintf("%x\r\n%s\r\n", len(block), block))
			}
			n := 0
			for n < size {
				wrote, err := conn.Write(block)
				n += wrote
				if err != nil {
					break // refused and closed
				}
			}
			sent <- n
		}()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: no answer: %v", framing, err)
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16)) // the connection may end in it
		if response.StatusCode != 413 || !strings.Contains(string(body), "8388608") {
			t.Errorf("%s: answered %d %s", framing, response.StatusCode, body)
		}
		_ = conn.Close()
		t.Logf("%s: refused after %d bytes were sent", framing, <-sent)
		stillServes(t, m, "after a huge body")
	}
	if reply, err := m.API.Get(context.Background(), "sessions", "huge"); err != nil || reply.Status != 404 {
		t.Errorf("something of it was stored: %v %v", reply, err)
	}
}

// idleConnections opens 2,000 connections that say nothing.
func idleConnections(t *testing.T, m *cluster.Member, before int64) {
	idle := make([]net.Conn, 2_000)
	for i := range idle {
		idle[i] = dial(t, m)
	}
	stillServes(t, m, "beside 2,000 idle connections")
	grown(t, m, before, "2,000 idle connections")
}

// nonsense has the status and problem of the contract, and says that nothing was applied.
func nonsense(t *testing.T, m *cluster.Member) {
	entry := client.EntryPath("sessions", "k")
	cases := []struct {
		what   string
		call   client.Call
		status int
	}{
		{"an unknown cache", client.Call{Method: "PUT", Path: client.EntryPath("nowhere", "k"), Body: []byte("x")}, 404},
		{"a key of 1,025 bytes", client.Call{Method: "PUT", Path: client.EntryPath("sessions", strings.Repeat("k", 1025)), Body: []byte("x")}, 400},
		{"a bad ttl", client.Call{Method: "PUT", Path: entry + "?ttl=soon", Body: []byte("x")}, 400},
		{"a bad ETag", client.Call{Method: "PUT", Path: entry, Body: []byte("x"), Header: http.Header{"If-Match": {"x"}}}, 400},
		{"a foreign origin", client.Call{Method: "PUT", Path: entry, Body: []byte("x"), Header: http.Header{"Origin": {"https://evil.example"}}}, 403},
		{"a bad increment", client.Call{Method: "POST", Path: entry + "/increment?by=one"}, 400},
	}
	for _, one := range cases {
		reply, err := m.API.Do(context.Background(), one.call)
		if err != nil {
			t.Errorf("%s: %v", one.what, err)
			continue
		}
		if reply.Status != one.status || reply.Problem == nil || reply.Problem.Applied != "no" {
			t.Errorf("%s: answered %s", one.what, reply)
		}
	}
}
