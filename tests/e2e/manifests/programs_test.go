package manifests

import (
	"context"
	"time"

	"example.com/sidegrid/e2e/machine"
)

// buildLimit bounds building kubectl and helm, which happens once.
const buildLimit = 20 * time.Minute

// programs is the folder of kubectl and helm.
func programs() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	return machine.Programs(ctx)
}
