package kube

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is between two looks at a condition. Each look is a call of kubectl, so it is not shorter.
const pollEvery = 300 * time.Millisecond

// Until looks at a condition until it holds: `look` gives nil then, and else what is missing. An error says what was
// missing at the last look.
func Until(ctx context.Context, limit time.Duration, what string, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		case <-time.After(pollEvery):
		}
	}
}
