package apps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// marker stands on the line before each block of commands that is run here.
const marker = "<!-- executed by tests/apps -->\n```sh\n"

var (
	promised = regexp.MustCompile(`(?m)# ([1-5]\d\d)\b`)
	answered = regexp.MustCompile(`HTTP/\d(?:\.\d)? ([1-5]\d\d)\b`)
)

// Every block that the documents mark works as printed, twice in a row, and answers the statuses that its comments say.
func TestPrintedCommandsWork(t *testing.T) {
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, rest := range strings.Split(string(text), marker)[1:] {
			block, _, ended := strings.Cut(rest, "```\n")
			if !ended {
				t.Fatalf("%s: a block does not end", name)
			}
			found++
			t.Run(fmt.Sprintf("%s-%d", filepath.Base(name), i+1), func(t *testing.T) {
				for range 2 {
					runBlock(t, block)
				}
			})
		}
	}
	if found < 3 {
		t.Errorf("only %d blocks are marked", found)
	}
}

func runBlock(t *testing.T, block string) {
	t.Helper()
	// In a network of its own, so that the ports that people use are free, and nothing leaves it.
	command := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--net", "--pid", "--fork",
		"--kill-child", "bash", "-u", "-c", "ip link set lo up\n"+block)
	command.Env = []string{"PATH=" + filepath.Dir(binary(t)) + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + t.TempDir()}
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	command.Stderr = &log
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, log.String())
	}
	wanted, got := statuses(promised, block), statuses(answered, string(output))
	if !slices.Equal(wanted, got) {
		t.Errorf("answered %v, the comments say %v\n%s\n%s", got, wanted, output, log.String())
	}
}

func statuses(pattern *regexp.Regexp, text string) []string {
	var all []string
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	return all
}
