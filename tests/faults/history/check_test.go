package history

import (
	"strings"
	"testing"
	"time"
)

// at is an entry whose times are given in whole steps.
func at(call, end int64, o Operation, a Answer) Entry {
	return Entry{Operation: o, Answer: a, Call: call, Return: end}
}

func read(value, etag string) (Operation, Answer) {
	if value == "" {
		return Operation{Key: "k", Kind: Read}, Answer{Status: 404}
	}
	return Operation{Key: "k", Kind: Read}, Answer{Status: 200, Value: value, ETag: etag}
}

func put(value, etag string, status int) (Operation, Answer) {
	return Operation{Key: "k", Kind: Put, Value: value}, Answer{Status: status, ETag: etag}
}

func swap(match, value, etag string, status int) (Operation, Answer) {
	return Operation{Key: "k", Kind: Swap, Match: match, Value: value}, Answer{Status: status, ETag: etag}
}

func create(value, etag string, status int) (Operation, Answer) {
	return Operation{Key: "k", Kind: Create, Value: value}, Answer{Status: status, ETag: etag}
}

func remove(match string, status int) (Operation, Answer) {
	kind := Remove
	if match == "" {
		kind = Delete
	}
	return Operation{Key: "k", Kind: kind, Match: match}, Answer{Status: status}
}

func add(by int64, sum string) (Operation, Answer) {
	return Operation{Key: "k", Kind: Increment, By: by, Counter: true}, Answer{Status: 200, Value: sum}
}

func unknown(o Operation, _ Answer) (Operation, Answer) { return o, Answer{Fate: Unknown} }

func refused(o Operation, _ Answer) (Operation, Answer) { return o, Answer{Fate: Refused} }

func counter(o Operation, a Answer) (Operation, Answer) { o.Counter = true; return o, a }

// script makes a history of operations one after another.
type script struct {
	entries []Entry
	now     int64
}

func (s *script) then(o Operation, a Answer) *script {
	s.entries = append(s.entries, at(s.now, s.now+1, o, a))
	s.now += 2
	return s
}

func TestGoodHistoriesPass(t *testing.T) {
	good := map[string]*script{
		"a life": new(script).then(read("", "")).then(put("a", "1", 201)).then(read("a", "1")).then(put("b", "2", 204)).
			then(swap("2", "c", "3", 204)).then(swap("2", "d", "3", 412)).then(create("e", "3", 412)).then(remove("", 204)).
			then(remove("", 404)).then(create("f", "4", 201)).then(remove("3", 412)).then(remove("4", 204)).then(read("", "")),
		"an unknown write that was applied":       new(script).then(unknown(put("a", "", 0))).then(read("a", "1")),
		"an unknown write applied later":          new(script).then(put("a", "1", 201)).then(unknown(put("b", "", 0))).then(read("a", "1")).then(read("b", "2")),
		"an unknown write that never was":         new(script).then(put("a", "1", 201)).then(unknown(put("b", "", 0))).then(read("a", "1")),
		"a swap after an unknown write was read":  new(script).then(unknown(put("a", "", 0))).then(read("a", "1")).then(swap("1", "b", "2", 204)).then(read("b", "2")),
		"412 shows the ETag of an unseen write":   new(script).then(put("a", "1", 201)).then(unknown(put("b", "", 0))).then(swap("1", "c", "9", 412)),
		"a refused write that nobody sees":        new(script).then(refused(put("a", "", 0))).then(read("", "")),
		"a counter":                               new(script).then(add(2, "2")).then(add(-5, "-3")).then(counter(read("-3", "7"))).then(counter(remove("", 204))).then(add(1, "1")),
		"an unknown increment":                    new(script).then(add(2, "2")).then(unknown(add(3, ""))).then(add(1, "3")).then(add(1, "7")),
		"an unknown delete, later put back":       new(script).then(put("a", "1", 201)).then(unknown(remove("", 0))).then(put("b", "2", 201)),
		"a read that is answered by no one":       new(script).then(put("a", "1", 201)).then(unknown(read("", ""))).then(read("a", "1")),
		"an unknown create on what is there":      new(script).then(put("a", "1", 201)).then(unknown(create("b", "", 0))).then(read("a", "1")),
		"an unknown swap whose match had gone by": new(script).then(put("a", "1", 201)).then(put("b", "2", 204)).then(unknown(swap("1", "c", "", 0))).then(read("b", "2")),
	}
	for name, s := range good {
		if verdict := Check(s.entries, time.Second); len(verdict.Violations)+len(verdict.Undecided) != 0 {
			t.Errorf("%s: %+v", name, verdict)
		}
	}
}

func TestBadHistoriesAreRejected(t *testing.T) {
	bad := map[string]*script{
		"a stale read":                       new(script).then(put("a", "1", 201)).then(put("b", "2", 204)).then(read("a", "1")),
		"a lost write":                       new(script).then(put("a", "1", 201)).then(read("", "")),
		"a value out of nowhere":             new(script).then(read("x", "1")),
		"a deleted value back":               new(script).then(put("a", "1", 201)).then(remove("", 204)).then(read("a", "1")),
		"two creates that both won":          new(script).then(create("a", "1", 201)).then(create("b", "2", 201)),
		"a create that lost to nobody":       new(script).then(create("a", "1", 412)),
		"two swaps of one ETag":              new(script).then(put("a", "1", 201)).then(swap("1", "b", "2", 204)).then(swap("1", "c", "3", 204)),
		"a swap that failed on a match":      new(script).then(put("a", "1", 201)).then(swap("1", "b", "1", 412)),
		"a swap of what is gone":             new(script).then(put("a", "1", 201)).then(remove("", 204)).then(swap("1", "b", "2", 204)),
		"a replacement called a creation":    new(script).then(put("a", "1", 201)).then(put("b", "2", 201)),
		"a remove of another version":        new(script).then(put("a", "1", 201)).then(put("b", "2", 204)).then(remove("1", 204)),
		"a lost increment":                   new(script).then(add(1, "1")).then(add(1, "1")),
		"an increment applied twice":         new(script).then(add(1, "1")).then(add(1, "3")),
		"an unknown write, then gone again":  new(script).then(put("a", "1", 201)).then(unknown(put("b", "", 0))).then(read("b", "2")).then(read("a", "1")),
		"an unknown increment applied twice": new(script).then(unknown(add(3, ""))).then(add(1, "4")).then(add(1, "8")),
		"an effect before its call":          new(script).then(read("a", "1")).then(unknown(put("a", "", 0))),
		"a refused write seen":               new(script).then(refused(put("a", "", 0))).then(read("a", "1")),
		"a refused increment applied":        new(script).then(refused(add(1, ""))).then(add(1, "2")),
		"a wrong ETag after 412":             new(script).then(put("a", "1", 201)).then(put("b", "2", 204)).then(create("c", "1", 412)),
		"one ETag for two values":            new(script).then(put("a", "1", 201)).then(put("b", "1", 204)),
		"two ETags for one value":            new(script).then(put("a", "1", 201)).then(read("a", "2")),
	}
	for name, s := range bad {
		if verdict := Check(s.entries, time.Second); len(verdict.Violations) == 0 {
			t.Errorf("%s passes", name)
		}
	}
}

// TestConcurrencyIsAllowedAndNoMoreThanThat: two reads during a write may differ, but not go back.
func TestConcurrencyIsAllowedAndNoMoreThanThat(t *testing.T) {
	old, now := Operation{Key: "k", Kind: Put, Value: "a"}, Operation{Key: "k", Kind: Put, Value: "b"}
	r := Operation{Key: "k", Kind: Read}
	history := func(first, second string) []Entry {
		tags := map[string]string{"a": "1", "b": "2"}
		return []Entry{
			at(0, 1, old, Answer{Status: 201, ETag: "1"}),
			at(2, 20, now, Answer{Status: 204, ETag: "2"}),
			at(3, 4, r, Answer{Status: 200, Value: first, ETag: tags[first]}),
			at(5, 6, r, Answer{Status: 200, Value: second, ETag: tags[second]}),
		}
	}
	if v := Check(history("a", "b"), time.Second); len(v.Violations) != 0 {
		t.Errorf("forwards: %v", v.Violations)
	}
	v := Check(history("b", "a"), time.Second)
	if len(v.Violations) != 1 || !strings.Contains(v.Violations[0], "read k -> 200 a 1") {
		t.Errorf("backwards: %v", v.Violations)
	}
}

// TestKeysAreChecked apart: a fault of one key is found among many that are fine.
func TestKeysAreCheckedApart(t *testing.T) {
	s := new(script)
	for _, key := range []string{"x", "y", "z"} {
		o, a := put(key, "1", 201)
		o.Key = key
		s.then(o, a)
	}
	o, a := read("", "")
	o.Key = "y"
	s.then(o, a)
	v := Check(s.entries, time.Second)
	if len(v.Violations) != 1 || !strings.HasPrefix(v.Violations[0], "y is not linearizable") {
		t.Errorf("found: %v", v.Violations)
	}
}
