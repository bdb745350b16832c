package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// runOnce is `sessions once`: the work of a Job. Exits 64 on another word, 1 when the cache failed.
func runOnce(cache *Cache) {
	if len(os.Args) != 2 || os.Args[1] != "once" {
		fmt.Fprintln(os.Stderr, "usage: sessions [once]")
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := once(ctx, cache); err != nil {
		stop()
		log.Fatal(err)
	}
}

// once makes a session, reads it back and removes it.
func once(ctx context.Context, cache *Cache) error {
	id, value := newID(), "job"
	if err := cache.Create(ctx, id, []byte(value), time.Minute); err != nil {
		return fmt.Errorf("can't write: %w", err)
	}
	read, err := cache.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("can't read back: %w", err)
	}
	if string(read) != value {
		return fmt.Errorf("wrote %q and read %q", value, read)
	}
	if err := cache.Delete(ctx, id); err != nil {
		return fmt.Errorf("can't remove: %w", err)
	}
	log.Printf("wrote, read and removed %s", id)
	return nil
}
