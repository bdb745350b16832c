package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// keepLimit bounds the keeping of all of a failed test.
const keepLimit = 2 * time.Minute

// Keep writes objects, events and logs of the namespaces into `folder`, for whoever looks at a failed test. What can't
// be had is noted in its file instead.
func (k *Kubectl) Keep(folder string, namespaces ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), keepLimit)
	defer cancel()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	write := func(name string, arguments ...string) error {
		out, err := k.Run(ctx, "", arguments...)
		if err != nil {
			out = fmt.Appendf(out, "\n%v\n", err)
		}
		return os.WriteFile(filepath.Join(folder, name), out, 0o644)
	}
	if err := write("nodes.yaml", "get", "nodes", "--output=yaml"); err != nil {
		return err
	}
	for _, namespace := range namespaces {
		in := "--namespace=" + namespace
		// Not Secrets: what is kept may be handed on.
		kinds := "cacheclusters,deployments,jobs,pods,services,configmaps,poddisruptionbudgets"
		if err := write(namespace+".objects.yaml", "get", kinds, in, "--output=yaml"); err != nil {
			return err
		}
		if err := write(namespace+".events.txt", "get", "events", in, "--sort-by=.lastTimestamp"); err != nil {
			return err
		}
		var pods List[Pod]
		if err := k.Get(ctx, &pods, "pods", in); err != nil {
			continue // told by objects.yaml
		}
		for _, pod := range pods.Items {
			name := namespace + "." + pod.Metadata.Name
			if err := write(name+".log", "logs", in, pod.Metadata.Name, "--all-containers", "--prefix"); err != nil {
				return err
			}
			if pod.SidecarStatus().RestartCount > 0 {
				if err := write(name+".previous.log", "logs", in, pod.Metadata.Name, "--container=sidegrid", "--previous"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Complaints are the lines of WARN and ERROR of a container's log, in JSON, that hold none of the announced texts.
func Complaints(log string, announced []string) []string {
	var found []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"level":"WARN"`) && !strings.Contains(line, `"level":"ERROR"`) && !strings.HasPrefix(line, "thread '") {
			continue
		}
		if !containsAny(line, announced) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func containsAny(line string, texts []string) bool {
	for _, text := range texts {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}
