package main

import (
	"encoding/json"
	"errors"
	"html/template"
	"log"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// App is the web service. It has no state of its own: whatever must outlive a request is in the cache.
type App struct {
	// Name tells the copies of the service apart on the page.
	Name string
	// Sessions holds one entry a session, and the counter "hits".
	Sessions *Cache
	// Lifetime is how long a session lives after its last use.
	Lifetime time.Duration
	// Sidecar is the base URL of the sidecar beside this copy, for what it says of the cluster.
	Sidecar string
}

// Session is what the cache holds under a session's id.
type Session struct {
	User   string    `json:"user"`
	Since  time.Time `json:"since"`
	MadeAt string    `json:"madeAt"`
}

const (
	cookieName = "session"
	hitsKey    = "hits"
	maxName    = 64
)

// Routes is the service's HTTP interface.
func (a *App) Routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("/login", a.login)
	mux.HandleFunc("/logout", a.logout)
	mux.HandleFunc("GET /session", a.session)
	mux.HandleFunc("GET /cluster", a.cluster)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return mux
}

// login makes a session. The cache decides whether its id is new (create-if-absent), so two copies of the service
// could never hand out one id twice.
func (a *App) login(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.FormValue("user"))
	if user == "" || len(user) > maxName || !utf8.ValidString(user) {
		http.Error(w, "say who you are: /login?user=ada (1 to 64 bytes)", http.StatusBadRequest)
		return
	}
	id := newID()
	value, err := json.Marshal(Session{User: user, Since: time.Now().UTC().Truncate(time.Second), MadeAt: a.Name})
	if err == nil {
		err = a.Sessions.Create(r.Context(), id, value, a.Lifetime)
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout removes the session everywhere at once: no copy of the service accepts its cookie afterwards.
func (a *App) logout(w http.ResponseWriter, r *http.Request) {
	if id := sessionID(r); id != "" {
		if err := a.Sessions.Delete(r.Context(), id); err != nil && !errors.Is(err, ErrAbsent) {
			a.fail(w, err)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// home shows who the cookie belongs to, and lets the session live on.
func (a *App) home(w http.ResponseWriter, r *http.Request) {
	page := page{Name: a.Name}
	if id := sessionID(r); id != "" {
		value, err := a.Sessions.Get(r.Context(), id)
		switch {
		case errors.Is(err, ErrAbsent): // logged out, or run out
		case err != nil:
			a.fail(w, err)
			return
		default:
			page.Session = new(Session)
			if err := json.Unmarshal(value, page.Session); err != nil {
				a.fail(w, err)
				return
			}
			if err := a.Sessions.Extend(r.Context(), id, a.Lifetime); err != nil && !errors.Is(err, ErrAbsent) {
				a.fail(w, err)
				return
			}
		}
	}
	hits, err := a.Sessions.Increment(r.Context(), hitsKey, 1)
	if err != nil {
		a.fail(w, err)
		return
	}
	page.Hits = hits
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := home.Execute(w, page); err != nil {
		log.Printf("a page was cut short: %v", err)
	}
}

// session is the cookie's session as JSON, for programs; 401 when there is none. It changes nothing.
func (a *App) session(w http.ResponseWriter, r *http.Request) {
	value, err := []byte(nil), ErrAbsent
	if id := sessionID(r); id != "" {
		value, err = a.Sessions.Get(r.Context(), id)
	}
	switch {
	case errors.Is(err, ErrAbsent):
		http.Error(w, "no session", http.StatusUnauthorized)
	case err != nil:
		a.fail(w, err)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(value)
	}
}

// cluster passes on what the sidecar beside this copy says of the cluster.
func (a *App) cluster(w http.ResponseWriter, r *http.Request) {
	state, err := clusterState(r.Context(), a.Sidecar)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(state)
}

func (a *App) fail(w http.ResponseWriter, err error) {
	log.Printf("refused a request: %v", err)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "The session store can't answer just now; please try again.\n\n"+err.Error(), http.StatusServiceUnavailable)
}

// sessionID is the cookie's session, or "" when there is none that this service could have made.
func sessionID(r *http.Request) string {
	cookie, err := r.Cookie(cookieName)
	if err != nil || len(cookie.Value) != 32 || strings.Trim(cookie.Value, "0123456789abcdef") != "" {
		return ""
	}
	return cookie.Value
}

type page struct {
	Name    string
	Session *Session
	Hits    int64
}

var home = template.Must(template.New("home").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Sessions</title>
<style>body{font:18px/1.6 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1rem}
code{background:#eee;padding:.1em .3em;border-radius:4px}.by{color:#666}</style></head>
<body>
{{with .Session}}<h1>Hello {{.User}}</h1>
<p>You logged in at <code>{{.MadeAt}}</code> on {{.Since.Format "2 Jan 2006 15:04:05 MST"}}.</p>
<form method="post" action="/logout"><button>Log out</button></form>
{{else}}<h1>Who are you?</h1>
<form method="post" action="/login"><input name="user" maxlength="64" required autofocus> <button>Log in</button></form>
{{end}}<p class="by">Answered by <code>{{.Name}}</code>; {{.Hits}} page views over all copies of this service.</p>
</body></html>
`))
