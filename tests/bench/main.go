// Bench prints the sidecar's figures: GET hits a second beside a bare axum server that answers the same bytes in the
// same run, memory, start, size. It measures and asserts nothing.
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	valueBytes = 100
	entries    = 200_000
	path       = "/v1/caches/%s/entries/%s"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds of each server, by turns")
	last := flag.Duration("last", 3*time.Second, "how long a round lasts")
	flag.Parse()
	if err := run(*rounds, *last); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, last time.Duration) error {
	binary, bare, err := programs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sidegrid-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := size(binary, dir); err != nil {
		return err
	}
	member, first, err := StartMember(binary, dir)
	if err != nil {
		return err
	}
	fmt.Printf("start to serving, first ever (makes the CA)   %7d ms\n", first.Milliseconds())
	member.Stop()
	member, again, err := StartMember(binary, dir)
	if err != nil {
		return err
	}
	defer func() { member.Stop() }()
	fmt.Printf("start to serving, later                       %7d ms\n", again.Milliseconds())
	if err := memory(member); err != nil {
		return err
	}
	for _, cache := range []string{"sessions", "near"} {
		if err := throughput(member, bare, cache, rounds, last); err != nil {
			return err
		}
	}
	return nil
}

// programs finds the sidecar and builds the bare server.
func programs() (binary, bare string, err error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", "", err
	}
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(root, "target")
	}
	if binary = os.Getenv("SIDEGRID_BIN"); binary == "" {
		binary = filepath.Join(target, "fast", "sidegrid")
	}
	if _, err := os.Stat(binary); err != nil {
		return "", "", fmt.Errorf("%w; build it with: cargo build --profile fast --package sidegrid", err)
	}
	build := exec.Command("cargo", "build", "--quiet", "--profile", "fast", "--package", "sidegrid-bare")
	build.Dir, build.Stderr = root, os.Stderr
	return binary, filepath.Join(target, "fast", "sidegrid-bare"), build.Run()
}

// size prints the binary's size, and without what a debugger needs.
func size(binary, dir string) error {
	found, err := os.Stat(binary)
	if err != nil {
		return err
	}
	fmt.Printf("binary                                        %7.1f MB    %s\n", float64(found.Size())/1e6, binary)
	stripped := filepath.Join(dir, "stripped")
	if exec.Command("strip", "-o", stripped, binary).Run() != nil {
		return nil // no binutils here
	}
	if found, err = os.Stat(stripped); err != nil {
		return err
	}
	fmt.Printf("binary without symbols                        %7.1f MB\n", float64(found.Size())/1e6)
	return os.Remove(stripped)
}

// memory prints what an idle member takes and what an entry adds.
func memory(member *Server) error {
	idle, own := settled(member), member.Memory("Anonymous")
	for i, who := range []string{"supervisor", "member"} {
		if i < min(len(idle), len(own)) {
			// The program's own pages are shared by the two, and come and go with the page cache.
			fmt.Printf("idle memory of the %-27s%7.1f MB    resident, %.1f MB of it not shared with the binary's file\n",
				who, float64(idle[i])/1e6, float64(own[i])/1e6)
		}
	}
	began := time.Now()
	if err := Fill(member.Address, "sessions", entries, []byte(strings.Repeat("x", valueBytes))); err != nil {
		return err
	}
	took := time.Since(began)
	full := settled(member)
	delta := sum(full) - sum(idle)
	fmt.Printf("bytes per %d-byte entry (16-byte key, RSS)    %7.0f    over %d entries\n", valueBytes, float64(delta)/entries, entries)
	fmt.Printf("stored                                        %7.0f a second, %d connections\n", entries/took.Seconds(), connections)
	return nil
}

// settled is the resident memory once it has stopped changing, or after five seconds.
func settled(member *Server) []int64 {
	last := member.Memory("Rss")
	for range 10 {
		time.Sleep(500 * time.Millisecond)
		now := member.Memory("Rss")
		if slices.Equal(now, last) {
			break
		}
		last = now
	}
	return last
}

func sum(all []int64) (total int64) {
	for _, one := range all {
		total += one
	}
	return total
}

// throughput runs both servers by turns and prints medians and their ratio.
func throughput(member *Server, bareBinary, cache string, rounds int, last time.Duration) error {
	body := []byte(strings.Repeat("x", valueBytes))
	if err := Fill(member.Address, cache, 1, body); err != nil {
		return err
	}
	entry := fmt.Sprintf(path, cache, Key(0))
	headers, err := headersOf("http://" + member.Address + entry)
	if err != nil {
		return err
	}
	bare, err := StartBare(bareBinary, body, headers)
	if err != nil {
		return err
	}
	defer bare.Stop()
	servers := []*Server{member, bare}
	rates, cpu := make([][]float64, 2), make([][]float64, 2)
	for round := range rounds + 1 {
		for i, server := range servers {
			before := server.CPU()
			load, err := Get(server.Address, entry, len(body), last)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // to warm up
			}
			rates[i] = append(rates[i], load.PerSecond())
			cpu[i] = append(cpu[i], float64((server.CPU()-before).Nanoseconds())/1e3/float64(load.Requests))
		}
	}
	fmt.Printf("GET hits, %s cache, %d connections\n", map[string]string{"sessions": "distributed", "near": "local"}[cache], connections)
	for i, name := range []string{"sidegrid", "bare axum"} {
		fmt.Printf("  %-10s %8.0f a second (%.0f to %.0f), %5.1f us of processor each\n",
			name, median(rates[i]), slices.Min(rates[i]), slices.Max(rates[i]), median(cpu[i]))
	}
	fmt.Printf("  ratio      %8.2f of the bare server's throughput, %.2f of its processor time\n",
		median(rates[0])/median(rates[1]), median(cpu[0])/median(cpu[1]))
	return nil
}

// headersOf are the header lines of an answer, but for those that every server writes by itself.
func headersOf(address string) ([]string, error) {
	response, err := http.Get(address)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return nil, err
	}
	var lines []string
	for name, values := range response.Header {
		if name != "Date" && name != "Content-Length" {
			for _, value := range values {
				lines = append(lines, name+": "+value)
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
