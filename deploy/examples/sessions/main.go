// Sessions is a small web service that keeps its login sessions in Sidegrid, so that any copy of it can serve any
// user and none of them loses a login when another one dies.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listen := setting("LISTEN", "127.0.0.1:8080")
	cacheURL := setting("SIDEGRID_URL", "http://127.0.0.1:7080")
	host, _ := os.Hostname()
	if len(os.Args) > 1 {
		runOnce(NewCache(cacheURL, setting("SIDEGRID_CACHE", "sessions")))
		return
	}
	app := &App{
		Name:     setting("NAME", host),
		Sessions: NewCache(cacheURL, setting("SIDEGRID_CACHE", "sessions")),
		Lifetime: 30 * time.Minute,
		Sidecar:  cacheURL,
	}
	server := &http.Server{
		Handler:           app.Routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		log.Fatalf("can't listen: %v", err)
	}
	log.Printf("%s serves on http://%s, sessions at %s", app.Name, listener.Addr(), cacheURL)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace) // a request that outlives the grace is cut off by the exit
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatalf("stopped: %v", err)
	}
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
