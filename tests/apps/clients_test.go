package apps

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clients are the example's four programs, each as the command that runs it.
func clients(t *testing.T) map[string][]string {
	t.Helper()
	folder, err := filepath.Abs("../../deploy/examples/from-an-app")
	if err != nil {
		t.Fatal(err)
	}
	built := t.TempDir()
	compile(t, filepath.Join(folder, "go"), "go", "build", "-o", filepath.Join(built, "client"), ".")
	compile(t, folder, "javac", "-d", built, "Cache.java")
	return map[string][]string{
		"python": {"python3", filepath.Join(folder, "cache.py")},
		"node":   {"node", filepath.Join(folder, "cache.mjs")},
		"go":     {filepath.Join(built, "client")},
		"java":   {"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", built, "Cache"},
	}
}

func compile(t *testing.T, folder string, command ...string) {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.Dir = folder
	if output, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, output)
	}
}

// client runs one command of a client against a sidecar (or what stands before it).
func client(t *testing.T, program []string, url string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program[0], append(slices.Clone(program[1:]), arguments...)...)
	command.Env = append(os.Environ(), "SIDEGRID_URL="+url, "CACHE=default")
	var errors strings.Builder
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errors.String())
	}
	return strings.TrimSpace(string(output)), err
}

// Every language's compare-and-set loop appends to one list at one time, and no item is lost.
func TestWritersInFourLanguagesLoseNothing(t *testing.T) {
	const each = 4
	url := dev(t)
	var wait sync.WaitGroup
	var wanted []string
	for name, program := range clients(t) {
		for i := range each {
			wanted = append(wanted, fmt.Sprintf("%s-%d", name, i))
		}
		wait.Go(func() {
			for i := range each {
				if _, err := client(t, program, url, "add", "cart/7 with a space", fmt.Sprintf("%s-%d", name, i)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wait.Wait()
	var got []string
	if err := json.Unmarshal(get(t, url, "cart%2F7%20with%20a%20space"), &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Errorf("the list is %v, wanted %v", got, wanted)
	}
}

// The first answer to every write is lost after it was applied, the second attempt is refused for a moment; each write
// still counts once.
func TestARetryAppliesOnce(t *testing.T) {
	const each = 2
	url := dev(t)
	attempts := map[string]int{}
	var lock sync.Mutex
	lossy := before(t, url, func(w http.ResponseWriter, r *http.Request, pass func() *http.Response) {
		key := r.Header.Get("Idempotency-Key")
		lock.Lock()
		attempts[key]++
		attempt := attempts[key]
		lock.Unlock()
		switch {
		case r.Method == http.MethodGet:
			forward(w, pass())
		case attempt == 1:
			_ = pass().Body.Close()
			panic(http.ErrAbortHandler) // the connection is reset, after the write was applied
		case attempt == 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"detail":"rebalancing","retryable":true,"retryAfterMs":5}`)
		default:
			forward(w, pass())
		}
	})
	programs := clients(t)
	for name, program := range programs {
		for range each {
			if _, err := client(t, program, lossy, "count", "visits"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got, wanted := string(get(t, url, "visits")), fmt.Sprint(each*len(programs)); got != wanted {
		t.Errorf("counted %s, wanted %s", got, wanted)
	}
	if len(attempts) != each*len(programs) {
		t.Errorf("%d idempotency keys for %d operations", len(attempts), each*len(programs))
	}
}

// With no sidecar, or one that never answers, a read goes to the source and a write says that it failed; both end.
func TestAnAppGoesOnWithoutItsCache(t *testing.T) {
	hung := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(hung) })
	gone := "http://127.0.0.1:" + freePort(t)
	programs := clients(t)
	var wait sync.WaitGroup
	for name, program := range programs {
		wait.Go(func() {
			for what, url := range map[string]string{"gone": gone, "silent": silent.URL} {
				if got, err := client(t, program, url, "read", "price"); err != nil || got != "from the source" {
					t.Errorf("%s with a sidecar that is %s: %q, %v", name, what, got, err)
				}
				if got, err := client(t, program, url, "count", "visits"); err == nil {
					t.Errorf("%s with a sidecar that is %s: counted %q", name, what, got)
				}
			}
		})
	}
	wait.Wait()
}

// before stands between a client and the sidecar.
func before(t *testing.T, url string, answer func(http.ResponseWriter, *http.Request, func() *http.Response)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pass := func() *http.Response {
			onward, err := http.NewRequestWithContext(r.Context(), r.Method, url+r.URL.RequestURI(), r.Body)
			if err != nil {
				t.Error(err)
				panic(http.ErrAbortHandler)
			}
			onward.Header = r.Header.Clone()
			response, err := http.DefaultClient.Do(onward)
			if err != nil {
				t.Error(err)
				panic(http.ErrAbortHandler)
			}
			return response
		}
		answer(w, r, pass)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func forward(w http.ResponseWriter, response *http.Response) {
	defer response.Body.Close()
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}

func get(t *testing.T, url, key string) []byte {
	t.Helper()
	response, err := http.Get(url + "/v1/caches/default/entries/" + key)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	value, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %v", key, response.Status, err)
	}
	return value
}

// deadline bounds every wait here.
const deadline = 30 * time.Second
