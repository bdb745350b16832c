package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// connections that ask at once, each one request after another.
const connections = 32

// Load is what a run of requests came to.
type Load struct {
	Requests int64
	Took     time.Duration
}

// PerSecond is the throughput.
func (l Load) PerSecond() float64 { return float64(l.Requests) / l.Took.Seconds() }

// Get asks `address` for a path on kept connections for a time, and checks that each answer is 200 with `size` bytes.
// The requests are written by hand: a client library would take more of the two cores than the servers under test.
func Get(address, path string, size int, last time.Duration) (Load, error) {
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n\r\n")
	var total atomic.Int64
	var stop atomic.Bool
	failures := make(chan error, connections)
	var all sync.WaitGroup
	began := time.Now()
	for range connections {
		all.Add(1)
		go func() {
			defer all.Done()
			done, err := ask(address, request, size, &stop)
			total.Add(done)
			if err != nil {
				failures <- err
				stop.Store(true)
			}
		}()
	}
	timer := time.AfterFunc(last, func() { stop.Store(true) })
	all.Wait()
	timer.Stop()
	took := time.Since(began)
	select {
	case err := <-failures:
		return Load{}, err
	default:
		return Load{Requests: total.Load(), Took: took}, nil
	}
}

// ask repeats a request on one connection until it is told to stop.
func ask(address string, request []byte, size int, stop *atomic.Bool) (done int64, err error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	reader := bufio.NewReaderSize(conn, 16<<10)
	for !stop.Load() {
		// One deadline for many requests: setting it costs, and it only guards against a server that hangs.
		if done%1024 == 0 {
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				return done, err
			}
		}
		if _, err := conn.Write(request); err != nil {
			return done, err
		}
		if err := readAnswer(reader, size); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// readAnswer reads one answer and checks status and length.
func readAnswer(reader *bufio.Reader, size int) error {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answered %q", line)
	}
	length := -1
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if len(line) > 15 && (line[0]|0x20) == 'c' && bytes.EqualFold(line[:15], []byte("content-length:")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return err
			}
		}
	}
	if length != size {
		return fmt.Errorf("answered %d bytes instead of %d", length, size)
	}
	_, err = reader.Discard(length)
	return err
}

// Fill stores `count` entries of `value` over several connections. The keys have 16 bytes.
func Fill(address, cache string, count int, value []byte) error {
	failures := make(chan error, connections)
	var all sync.WaitGroup
	for worker := range connections {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := fill(address, cache, worker, count, value); err != nil {
				failures <- err
			}
		}()
	}
	all.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

// fill stores every key whose number belongs to this worker.
func fill(address, cache string, worker, count int, value []byte) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for n := worker; n < count; n += connections {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		head := fmt.Sprintf("PUT /v1/caches/%s/entries/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
			cache, Key(n), address, len(value))
		if _, err := conn.Write(append([]byte(head), value...)); err != nil {
			return err
		}
		status, err := drain(reader)
		if err != nil {
			return err
		}
		if status != 201 && status != 204 {
			return fmt.Errorf("a put is answered %d", status)
		}
	}
	return nil
}

// Key is the key of entry n: 16 bytes.
func Key(n int) string { return fmt.Sprintf("key-%012d", n) }

// drain reads an answer of any kind and gives its status.
func drain(reader *bufio.Reader) (int, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return 0, err
	}
	var status int
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &status); err != nil {
		return 0, err
	}
	length := 0
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) == 2 {
			break
		}
		if name, value, found := bytes.Cut(line, []byte(":")); found && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, reader, int64(length))
	return status, err
}
