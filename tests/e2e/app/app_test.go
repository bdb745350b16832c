package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestOnlyTheClustersRangeIsReached: nothing of a test may leave the machine.
func TestOnlyTheClustersRangeIsReached(t *testing.T) {
	c, err := NewClient(netip.MustParsePrefix("10.244.1.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	for address, allowed := range map[string]bool{
		"10.244.1.9:8080": true, "10.244.2.9:8080": false, "127.0.0.1:8080": false, "192.0.2.1:80": false, "example.test:80": false,
	} {
		if err := c.Allowed(address); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := c.Read(t.Context(), "192.0.2.1", "x"); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a stray request was not refused: %v", err)
	}
	if _, err := NewClient(netip.MustParsePrefix("8.0.0.0/8")); err == nil {
		t.Error("a public range is taken")
	}
}

// service stands in for pods: it answers as the example does, and forgets what it is told to.
type service struct{ forgets func(cookie string) bool }

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := &http.Response{Header: http.Header{}, StatusCode: http.StatusOK, Body: http.NoBody, Request: r}
	if user := r.URL.Query().Get("user"); user != "" {
		recorder.StatusCode = http.StatusSeeOther
		recorder.Header.Set("Set-Cookie", "session="+user)
		return recorder, nil
	}
	cookie, err := r.Cookie("session")
	if err != nil || s.forgets(cookie.Value) {
		recorder.StatusCode = http.StatusUnauthorized
		return recorder, nil
	}
	recorder.Body = body{strings.NewReader(fmt.Sprintf(`{"user":%q}`, cookie.Value))}
	return recorder, nil
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

// TestLossIsSeen: the ledger fails when one acknowledged session of many is gone, and not when none is.
func TestLossIsSeen(t *testing.T) {
	pods := &service{forgets: func(string) bool { return false }}
	c, err := NewClient(netip.MustParsePrefix("10.244.1.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport = pods
	ledger := NewLedger(c)
	at := []string{"10.244.1.2", "10.244.1.3"}
	if err := ledger.Check(t.Context(), at); err == nil {
		t.Fatal("an empty ledger shows nothing, and is no success")
	}
	if err := ledger.Write(t.Context(), 50, func() []string { return at }); err != nil || ledger.Len() != 50 {
		t.Fatalf("%d sessions: %v", ledger.Len(), err)
	}
	if err := ledger.Check(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	pods.forgets = func(cookie string) bool { return cookie == "user-17" }
	if err := ledger.Check(t.Context(), at); err == nil || !strings.Contains(err.Error(), "1 of 50") || !strings.Contains(err.Error(), "user-17") {
		t.Fatalf("said %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ledger.Write(ended, 1, func() []string { return nil }); err == nil {
		t.Fatal("a write that never happened is no error")
	}
}

// stuck stands in for a pod whose call is under way when its caller is about to end.
type stuck struct {
	taken chan struct{}
	goOn  chan struct{}
	end   error
}

func (s *stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	close(s.taken)
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-s.goOn:
	}
	if s.end != nil {
		return nil, s.end
	}
	return &http.Response{Header: http.Header{}, StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Request: r}, nil
}

// TestFaultsAreSeen: also that of a call that hung until after its caller was to end; where there is no pod is none.
func TestFaultsAreSeen(t *testing.T) {
	timeout := os.ErrDeadlineExceeded
	for what, one := range map[string]struct {
		end    error
		faults int
	}{
		"answered 503":             {nil, 1},
		"taken and never answered": {&net.OpError{Op: "read", Err: timeout}, 1},
		"no pod there":             {&net.OpError{Op: "dial", Err: timeout}, 0},
		"broken off":               {io.ErrUnexpectedEOF, 1},
	} {
		c, err := NewClient(netip.MustParsePrefix("10.244.1.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		pod := &stuck{taken: make(chan struct{}), goOn: make(chan struct{}), end: one.end}
		c.http.Transport = pod
		ctx, cancel := context.WithCancel(t.Context())
		felt := make(chan Felt)
		go func() { felt <- NewLedger(c).WriteUntil(ctx, func() []string { return []string{"10.244.1.2"} }) }()
		<-pod.taken
		cancel()
		close(pod.goOn)
		if got := <-felt; got.Calls != 1 || len(got.Faults) != one.faults {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
