// Package history records what concurrent clients did and checks it: per key for linearizability, with porcupine, and
// by two audits of its own.
package history

import (
	"fmt"
	"strings"
)

// Kind is what an operation does.
type Kind int

// The kinds of operation.
const (
	Read Kind = iota
	Put
	Create    // put if absent
	Swap      // put if the ETag matches
	Delete    // whatever is there
	Remove    // delete if the ETag matches
	Increment // add to a counter
)

var kindNames = [...]string{"read", "put", "create", "swap", "delete", "remove", "increment"}

// Operation is one request. Values of Put, Create and Swap are unique over a whole history.
type Operation struct {
	Key   string
	Kind  Kind
	Value string // of Put, Create, Swap
	Match string // the ETag of Swap and Remove
	By    int64  // of Increment
	// Counter marks a key that is incremented: its values repeat, so its ETags are not followed through the model.
	Counter bool
}

func (o Operation) String() string {
	text := kindNames[o.Kind] + " " + o.Key
	switch o.Kind {
	case Put, Create:
		text += " = " + o.Value
	case Swap:
		text += " " + o.Match + " = " + o.Value
	case Remove:
		text += " " + o.Match
	case Increment:
		text += fmt.Sprintf(" by %d", o.By)
	}
	return text
}

// Fate is what became of an operation.
type Fate int

// The fates of an operation.
const (
	// Decided: the answer tells its effect.
	Decided Fate = iota
	// Refused: it had no effect and never will ("applied: no").
	Refused
	// Unknown: it may have had its effect, may still have it later, or never.
	Unknown
)

// Answer is what a decided operation was answered: the words of HTTP, since these are what an app goes by.
type Answer struct {
	Fate   Fate
	Status int    // when decided: 200, 201, 204, 404 or 412
	Value  string // of a read, or a counter's new one
	ETag   string // of a read or a stored value; of the present entry after a 412
}

func (a Answer) String() string {
	switch a.Fate {
	case Refused:
		return "refused"
	case Unknown:
		return "unknown"
	}
	return strings.TrimRight(fmt.Sprintf("%d %s %s", a.Status, a.Value, a.ETag), " ")
}

// Entry is one operation of a history with the times of its call and return, in nanoseconds from the history's start.
type Entry struct {
	Client    int
	Operation Operation
	Answer    Answer
	Call      int64
	Return    int64
}
