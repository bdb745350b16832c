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

// judgeLogs fails the test for what its members complained of and nobody announced.
func (c *Cluster) judgeLogs() {
	for _, m := range c.Members {
		text, err := os.ReadFile(m.log)
		if err != nil {
			continue // never started
		}
		var bad []string
		for line := range strings.Lines(string(text)) {
			if grave.MatchString(line) && !c.isAnnounced(line) {
				bad = append(bad, strings.TrimSpace(line))
			}
		}
		if len(bad) > 0 {
			c.T.Errorf("%s complains %d times of what no test announced:\n  %s", m.Name, len(bad), strings.Join(bad[:min(len(bad), maxShown)], "\n  "))
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
