package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// size is how many sidecars and copies of the service there are.
const size = 3

// Deadlines, generous for a slow machine.
const (
	formDeadline = 60 * time.Second
	showDeadline = 20 * time.Second
)

// Demo is one run.
type Demo struct {
	processes *Processes
	dir       string
	sidegrid  string
	sessions  string
	pairs     []*Pair
}

// Pair is a sidecar and the copy of the service beside it.
type Pair struct {
	Name    string
	API     string // http://127.0.0.1:7081
	Admin   string
	Service string
	sidecar *Process
	service *Process
}

// Start starts the sidecars, waits until they are one cluster, and starts a copy of the service beside each.
func (d *Demo) Start(ctx context.Context) error {
	say("Starting three sidecars. In production each sits in a pod beside its app; here they share this machine.")
	for i := range size {
		pair, err := d.startSidecar(i + 1)
		if err != nil {
			return err
		}
		d.pairs = append(d.pairs, pair)
	}
	for _, pair := range d.pairs {
		if err := d.await(ctx, formDeadline, pair.Name+" is ready", func() error { return ready(pair, size) }); err != nil {
			return err
		}
	}
	for _, pair := range d.pairs {
		if err := d.startService(pair); err != nil {
			return err
		}
	}
	for _, pair := range d.pairs {
		if err := d.await(ctx, formDeadline, "the service beside "+pair.Name, func() error { return expect(pair.Service+"/healthz", "ok") }); err != nil {
			return err
		}
		fmt.Printf("    %-6s cache API %s   web service %s\n", pair.Name, pair.API, pair.Service)
	}
	return nil
}

func (d *Demo) startSidecar(n int) (*Pair, error) {
	name := fmt.Sprintf("web-%d", n)
	api, admin, service := port(7080+n), port(7990+n), port(8080+n)
	data, detection := port(7800+n), port(57800+n)
	settings := map[string]any{
		"cluster":  map[string]any{"name": "demo"},
		"member":   map[string]any{"name": name, "machine": "machine-" + name, "stateDir": filepath.Join(d.dir, name)},
		"registry": map[string]any{"kind": "file", "path": filepath.Join(d.dir, "registry", "document")},
		"network":  map[string]any{"bindAddress": "LOOPBACK", "dataPort": data, "failureDetectionPort": detection},
		"http":     map[string]any{"listen": local(api), "socket": filepath.Join(d.dir, name, "http.sock")},
		"admin":    map[string]any{"listen": local(admin)},
		"caches": map[string]any{
			"sessions": map[string]any{"mode": "distributed", "owners": 2, "ttl": "30m", "maxBytes": "64MiB"},
		},
	}
	// JSON is YAML.
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(d.dir, name+".yaml")
	for _, folder := range []string{filepath.Join(d.dir, name), filepath.Join(d.dir, "registry")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	pair := &Pair{Name: name, API: "http://" + local(api), Admin: "http://" + local(admin), Service: "http://" + local(service)}
	pair.sidecar, err = d.processes.Start(name, nil, d.sidegrid, "serve", "--config", config)
	return pair, err
}

func (d *Demo) startService(pair *Pair) (err error) {
	environment := []string{"SIDEGRID_URL=" + pair.API, "LISTEN=" + strings.TrimPrefix(pair.Service, "http://"), "NAME=" + pair.Name}
	pair.service, err = d.processes.Start("service-of-"+pair.Name, environment, d.sessions)
	return err
}

// Show makes a session at one copy, reads it at all, kills a sidecar and reads it again.
func (d *Demo) Show(ctx context.Context) error {
	say("Logging in as ada at the service beside web-1.")
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	if err := d.await(ctx, showDeadline, "the login", func() error { return visit(browser, d.pairs[0].Service+"/login?user=ada") }); err != nil {
		return err
	}
	say("The same browser, sent to each copy of the service:")
	if err := d.visitAll(ctx, browser, d.pairs); err != nil {
		return err
	}
	victim := d.victim(browser)
	say("Now the sidecar %s is killed with SIGKILL, supervisor and all, as if its machine had burnt down.", victim.Name)
	if owners := d.owners(browser); len(owners) > 0 {
		fmt.Printf("    (the session's two copies are at %s)\n", strings.Join(owners, " and "))
	}
	victim.sidecar.Kill()
	var left []*Pair
	for _, pair := range d.pairs {
		if pair != victim {
			left = append(left, pair)
		}
	}
	killed := time.Now()
	if err := d.visitAll(ctx, browser, left); err != nil {
		return err
	}
	fmt.Printf("    The session is still there: both pages came %d ms after the kill.\n", time.Since(killed).Milliseconds())
	for _, pair := range left {
		if err := d.await(ctx, formDeadline, "the cluster of two", func() error { return ready(pair, size-1) }); err != nil {
			return err
		}
	}
	fmt.Println("    The two that are left are one cluster again, with two copies of everything.")
	d.pairs = left
	return nil
}

// visitAll reads the home page at each of the pairs' services and shows what it says.
func (d *Demo) visitAll(ctx context.Context, browser *http.Client, pairs []*Pair) error {
	for _, pair := range pairs {
		var page string
		err := d.await(ctx, showDeadline, "the session at "+pair.Name, func() (err error) {
			page, err = read(browser, pair.Service+"/")
			if err == nil && !strings.Contains(page, "Hello ada") {
				err = fmt.Errorf("the page says: %s", page)
			}
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("    %s  ->  %s\n", pair.Service, page)
	}
	return nil
}

// victim is the sidecar to kill: the one that decides the session's writes when that can be told, else the first.
// The service beside it is not asked any more, since its sidecar is gone.
func (d *Demo) victim(browser *http.Client) *Pair {
	for _, owner := range d.owners(browser) {
		for _, pair := range d.pairs {
			if pair.Name == owner {
				return pair
			}
		}
	}
	return d.pairs[0]
}

// owners are the names of the members that hold the browser's session, primary first.
func (d *Demo) owners(browser *http.Client) []string {
	here, err := url.Parse(d.pairs[0].Service)
	if err != nil {
		return nil
	}
	for _, cookie := range browser.Jar.Cookies(here) {
		text, err := read(browser, d.pairs[0].API+"/v1/cluster/explain?cache=sessions&key="+cookie.Value)
		if err != nil {
			return nil
		}
		var told struct {
			Copies []struct {
				Member string `json:"member"`
			} `json:"copies"`
		}
		if json.Unmarshal([]byte(text), &told) != nil {
			return nil
		}
		var names []string
		for _, copy := range told.Copies {
			names = append(names, copy.Member)
		}
		return names
	}
	return nil
}

// Invite prints what a person may try while the demo stays up.
func (d *Demo) Invite() {
	one, other := d.pairs[0], d.pairs[1]
	entry := "/v1/caches/sessions/entries/greeting"
	say("Everything stays up until you press Ctrl-C. In a browser: %s - log in there, then look at %s", one.Service, other.Service)
	fmt.Printf(`
  In another terminal:
    curl -i -X PUT '%[1]s%[3]s?ttl=10m' -d 'hello'      # write through one sidecar
    curl -i %[2]s%[3]s                                  # read through the other
    curl -i -X PUT %[2]s%[3]s -H 'If-None-Match: *' -d 'again'   # 412: it is there already
    curl -i -X POST '%[1]s/v1/caches/sessions/entries/visits/increment?by=1'
    curl -s %[1]s/v1/cluster                            # who is in the cluster
    curl -s '%[1]s/v1/cluster/explain?cache=sessions&key=greeting'   # where a key lives, what it survives
    curl -s %[4]s/metrics | grep cluster_size

  Logs and settings of this run: %[5]s
`, one.API, other.API, entry, one.Admin, d.dir)
}

// await waits for a condition while everything that was started and not killed still runs.
func (d *Demo) await(ctx context.Context, deadline time.Duration, what string, holds func() error) error {
	end := time.Now().Add(deadline)
	for {
		err := holds()
		if err == nil {
			return nil
		}
		if dead := d.processes.Dead(); dead != nil {
			return dead
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s: %w", what, deadline, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready says whether a sidecar serves in a cluster of so many members, with every copy in place.
func ready(pair *Pair, members int) error {
	text, err := read(plain, pair.API+"/v1/cluster")
	if err != nil {
		return err
	}
	var told struct {
		Member struct {
			Ready  bool   `json:"ready"`
			Reason string `json:"reason"`
		} `json:"member"`
		View *struct {
			Members []struct {
				Name string `json:"name"`
			} `json:"members"`
		} `json:"view"`
		Health struct {
			Missing int `json:"underReplicatedGroups"`
		} `json:"health"`
	}
	if err := json.Unmarshal([]byte(text), &told); err != nil {
		return err
	}
	switch {
	case told.View == nil || !told.Member.Ready:
		return fmt.Errorf("it is not ready: %s", told.Member.Reason)
	case len(told.View.Members) != members:
		return fmt.Errorf("it is in a cluster of %d", len(told.View.Members))
	case told.Health.Missing > 0:
		return fmt.Errorf("%d groups of keys miss copies", told.Health.Missing)
	}
	return nil
}

var plain = &http.Client{Timeout: 5 * time.Second}

// expect reads an address, which must answer 200 with a text in it.
func expect(address, text string) error {
	response, err := plain.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), text) {
		return fmt.Errorf("%s answers %s", address, response.Status)
	}
	return nil
}

func visit(browser *http.Client, address string) error {
	_, err := read(browser, address)
	return err
}

var (
	style = regexp.MustCompile(`(?s)<(style|title|form)\b.*?</(style|title|form)>`)
	tags  = regexp.MustCompile(`<[^>]*>`)
)

// read gives the text of a page, in one line.
func read(browser *http.Client, address string) (string, error) {
	response, err := browser.Get(address)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(tags.ReplaceAllString(style.ReplaceAllString(string(body), ""), " ")), " ")
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s: %s", address, response.Status, text)
	}
	return text, nil
}

// port is the wanted port when it is free on loopback, else one that is.
func port(wanted int) int {
	for _, try := range []int{wanted, 0} {
		if listener, err := net.Listen("tcp", local(try)); err == nil {
			defer listener.Close()
			return listener.Addr().(*net.TCPAddr).Port
		}
	}
	return wanted
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func say(format string, arguments ...any) {
	fmt.Printf("\n==> "+format+"\n", arguments...)
}
