package netns

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// namePrefix begins the name of every namespace that tests make; the process id follows.
const namePrefix = "sgf-"

// routeMetric is where the metrics of the tests' routes begin; the process id is added, so that each run has a route
// of its own and removes its own.
const routeMetric = 1_000_000

var route struct {
	sync.Mutex
	holders int
}

func routeArguments(verb string, pid int) []string {
	return []string{"route", verb, "unreachable", Range.String(), "metric", strconv.Itoa(routeMetric + pid)}
}

// holdRoute makes the range unreachable from the machine's own namespace: should a packet for it ever get there, it
// must not leave by the default route to whoever has that address outside.
func holdRoute() error {
	route.Lock()
	defer route.Unlock()
	if route.holders == 0 {
		if err := ip(routeArguments("add", os.Getpid())...); err != nil {
			return err
		}
	}
	route.holders++
	return nil
}

func releaseRoute() error {
	route.Lock()
	defer route.Unlock()
	route.holders--
	if route.holders > 0 {
		return nil
	}
	return ip(routeArguments("delete", os.Getpid())...)
}

// sweep removes what runs that were killed left behind. What belongs to a process that is still there stays.
func sweep() {
	entries, _ := os.ReadDir("/run/netns")
	for _, entry := range entries {
		rest, ours := strings.CutPrefix(entry.Name(), namePrefix)
		text, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(text); ours && err == nil && !alive(pid) {
			_ = ip("netns", "delete", entry.Name()) // another run may sweep it at the same time
		}
	}
	out, _ := exec.Command("ip", "route", "show", "type", "unreachable").Output()
	for line := range strings.Lines(string(out)) {
		var metric int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "unreachable "+Range.String()+" metric %d", &metric); err != nil {
			continue
		}
		if pid := metric - routeMetric; pid > 0 && !alive(pid) {
			_ = ip(routeArguments("delete", pid)...)
		}
	}
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}
