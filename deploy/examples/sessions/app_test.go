package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// copies starts several copies of the service on one cache and gives their addresses.
func copies(t *testing.T, cache *fakeCache, names ...string) []string {
	t.Helper()
	sidecar := httptest.NewServer(cache)
	t.Cleanup(sidecar.Close)
	var addresses []string
	for _, name := range names {
		app := &App{Name: name, Sessions: NewCache(sidecar.URL, "sessions"), Lifetime: time.Minute, Sidecar: sidecar.URL}
		server := httptest.NewServer(app.Routes())
		t.Cleanup(server.Close)
		addresses = append(addresses, server.URL)
	}
	return addresses
}

// browser keeps cookies by host; all copies here are 127.0.0.1, as all pods of a service have one host name.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 10 * time.Second}
}

func visit(t *testing.T, b *http.Client, address string) (int, string) {
	t.Helper()
	response, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestSessionMadeAtOneCopyIsReadAtTheOthersAndEndsEverywhere(t *testing.T) {
	at := copies(t, newFake(), "one", "two", "three")
	b := browser(t)
	if _, page := visit(t, b, at[1]); !strings.Contains(page, "Who are you?") {
		t.Fatalf("a stranger is shown: %s", page)
	}
	visit(t, b, at[0]+"/login?user=ada")
	for i, name := range []string{"one", "two", "three"} {
		_, page := visit(t, b, at[i])
		if !strings.Contains(page, "Hello ada") || !strings.Contains(page, "logged in at <code>one</code>") ||
			!strings.Contains(page, "Answered by <code>"+name+"</code>") {
			t.Fatalf("copy %s shows: %s", name, page)
		}
	}
	// Even a browser that kept the cookie is out.
	here, _ := url.Parse(at[0])
	kept := b.Jar.Cookies(here)
	visit(t, b, at[2]+"/logout")
	b.Jar.SetCookies(here, kept)
	for _, address := range at {
		if _, page := visit(t, b, address); !strings.Contains(page, "Who are you?") {
			t.Fatalf("after the logout %s shows: %s", address, page)
		}
	}
}

func TestProgramsReadSessionAndCluster(t *testing.T) {
	cache := newFake()
	at := copies(t, cache, "one", "two")
	b := browser(t)
	if status, body := visit(t, b, at[0]+"/session"); status != http.StatusUnauthorized {
		t.Fatalf("a stranger gets %d %s", status, body)
	}
	visit(t, b, at[0]+"/login?user=ada")
	status, body := visit(t, b, at[1]+"/session")
	var session Session
	if err := json.Unmarshal([]byte(body), &session); err != nil || status != 200 || session.User != "ada" || session.MadeAt != "one" {
		t.Fatalf("got %d %s (%v)", status, body, err)
	}
	if status, body := visit(t, b, at[1]+"/cluster"); status != 200 || body != fakeCluster {
		t.Fatalf("got %d %s", status, body)
	}
}

func TestOneShotLeavesNothing(t *testing.T) {
	cache := newFake()
	sidecar := httptest.NewServer(cache)
	t.Cleanup(sidecar.Close)
	if err := once(t.Context(), NewCache(sidecar.URL, "sessions")); err != nil {
		t.Fatal(err)
	}
	if cache.calls < 3 || len(cache.entries) != 0 {
		t.Fatalf("%d calls, left: %v", cache.calls, cache.entries)
	}
	if err := once(t.Context(), NewCache(sidecar.URL, "no-such")); err == nil {
		t.Fatal("a cache that is not there is no error")
	}
}

func TestHitsAreCountedOverAllCopies(t *testing.T) {
	at := copies(t, newFake(), "one", "two")
	b := browser(t)
	for i := range 6 {
		visit(t, b, at[i%2])
	}
	if _, page := visit(t, b, at[0]); !strings.Contains(page, "7 page views") {
		t.Fatalf("shown: %s", page)
	}
}

func TestRefusalsAndLostAnswersAreRepeatedAndAppliedOnce(t *testing.T) {
	cache := newFake()
	at := copies(t, cache, "one")
	b := browser(t)
	cache.refuse = 3
	visit(t, b, at[0]+"/login?user=bob") // 1 page view: the redirect shows the page
	cache.loseAnswers = 3
	if _, page := visit(t, b, at[0]); !strings.Contains(page, "Hello bob") || !strings.Contains(page, "2 page views") {
		t.Fatalf("shown: %s", page)
	}
	if cache.refuse != 0 || cache.loseAnswers != 0 {
		t.Fatalf("the faults were not met: %d refusals, %d lost answers left", cache.refuse, cache.loseAnswers)
	}
}

func TestStrangeInputIsRefused(t *testing.T) {
	cache := newFake()
	at := copies(t, cache, "one")
	for _, user := range []string{"", strings.Repeat("x", 65), "\xff"} {
		if status, page := visit(t, browser(t), at[0]+"/login?user="+url.QueryEscape(user)); status != 400 {
			t.Errorf("user %q: %d %s", user, status, page)
		}
	}
	before := cache.calls
	request := httptest.NewRequest("GET", "/", nil)
	request.AddCookie(&http.Cookie{Name: cookieName, Value: "../../other/entries/x"})
	if id := sessionID(request); id != "" || cache.calls != before {
		t.Fatalf("a cookie that this service never made reached the cache as %q", id)
	}
	visit(t, browser(t), at[0]+"/login?user=%3Cscript%3E")
	for _, value := range cache.entries {
		if strings.Contains(value, "<script>") {
			t.Fatalf("stored unescaped: %s", value)
		}
	}
}

func TestCacheThatIsAwayIsAPageNotAPanic(t *testing.T) {
	app := &App{Name: "one", Sessions: NewCache("http://127.0.0.1:1", "sessions"), Lifetime: time.Minute}
	app.Sessions.patience = 50 * time.Millisecond
	recorder := httptest.NewRecorder()
	app.Routes().ServeHTTP(recorder, httptest.NewRequest("GET", "/", nil))
	if recorder.Code != http.StatusServiceUnavailable || recorder.Header().Get("Retry-After") == "" {
		t.Fatalf("answered %d", recorder.Code)
	}
}
