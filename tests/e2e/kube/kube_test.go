package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestComplaintsAreThoseThatNobodyAnnounced(t *testing.T) {
	log := `{"level":"INFO","message":"joined"}
{"level":"WARN","message":"a peer is suspected"}
{"level":"WARN","message":"odd"}
{"level":"ERROR","message":"bad"}
thread 'main' panicked at core.rs
`
	found := Complaints(log, []string{"is suspected"})
	if len(found) != 3 || !strings.Contains(found[0], "odd") || !strings.Contains(found[2], "panicked") {
		t.Fatalf("found %q", found)
	}
}

func TestUntilTellsWhatWasMissing(t *testing.T) {
	looks := 0
	look := func(context.Context) error {
		if looks++; looks < 2 {
			return errors.New("one of two")
		}
		return nil
	}
	if err := Until(t.Context(), time.Minute, "both", look); err != nil || looks != 2 {
		t.Fatalf("%v after %d looks", err, looks)
	}
	never := func(context.Context) error { return errors.New("one of two") }
	err := Until(t.Context(), time.Millisecond, "both", never)
	if err == nil || !strings.Contains(err.Error(), "one of two") || !strings.Contains(err.Error(), "both") {
		t.Fatalf("said %v", err)
	}
}
