package cluster

import (
	"os"
	"regexp"
	"strings"
)

// grave matches a log line that a person must look at, or that a test must have announced.
var grave = regexp.MustCompile(`^(\S+\s+(WARN|ERROR) |thread .* panicked at )`)

// maxShown bounds how many lines of one log a failure shows.
const maxShown = 10

// readLogs are the members' logs by name, as they are now.
func (c *Cluster) readLogs() map[string]string {
	logs := map[string]string{}
	for _, m := range c.Members {
		if text, err := os.ReadFile(m.log); err == nil { // else it was never started
			logs[m.Name] = string(text)
		}
	}
	return logs
}

// judge fails the test for what its members complained of and nobody announced.
func (c *Cluster) judge(logs map[string]string) {
	for name, text := range logs {
		var bad []string
		for line := range strings.Lines(text) {
			if grave.MatchString(line) && !c.isAnnounced(line) {
				bad = append(bad, strings.TrimSpace(line))
			}
		}
		if len(bad) > 0 {
			c.T.Errorf("%s complains %d times of what no test announced:\n  %s", name, len(bad), strings.Join(bad[:min(len(bad), maxShown)], "\n  "))
		}
	}
}

func (c *Cluster) isAnnounced(line string) bool {
	for _, text := range c.options.Announced {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}
