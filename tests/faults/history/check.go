package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Verdict is what a check came to.
type Verdict struct {
	// Violations describe what is wrong; empty when nothing is.
	Violations []string
	// Undecided are keys whose histories could not be checked within the time given.
	Undecided []string
	// Operations, Unknown and Refused count the history's entries.
	Operations, Unknown, Refused int
}

// Check checks a history, giving each key at most `patience`.
func Check(all []Entry, patience time.Duration) Verdict {
	verdict := Verdict{Violations: audit(all), Operations: len(all)}
	told := toldETags(all)
	byKey := map[string][]porcupine.Operation{}
	// Later than everything: an operation of unknown fate may have its effect at any time from its call on.
	var never int64
	for _, e := range all {
		never = max(never, e.Return)
	}
	for _, e := range all {
		switch {
		case e.Answer.Fate == Refused:
			verdict.Refused++
			continue
		case e.Answer.Fate == Unknown && e.Operation.Kind == Read:
			verdict.Unknown++
			continue
		case e.Answer.Fate == Unknown:
			verdict.Unknown++
			e.Return = never + 1
			e.Answer.ETag = told[e.Operation.Value]
		}
		byKey[e.Operation.Key] = append(byKey[e.Operation.Key], porcupine.Operation{
			ClientId: e.Client, Input: e.Operation, Output: e.Answer, Call: e.Call, Return: e.Return,
		})
	}
	for key, operations := range byKey {
		switch porcupine.CheckOperationsTimeout(model, operations, patience) {
		case porcupine.Illegal:
			verdict.Violations = append(verdict.Violations, key+" is not linearizable:\n"+Format(all, key))
		case porcupine.Unknown:
			verdict.Undecided = append(verdict.Undecided, key)
		}
	}
	slices.Sort(verdict.Violations)
	slices.Sort(verdict.Undecided)
	return verdict
}

// toldETags are the ETags that answers told of values. An unknown write gets its own from there: values are unique,
// so if its value was ever seen, its ETag is known.
func toldETags(all []Entry) map[string]string {
	told := map[string]string{}
	for _, e := range all {
		if e.Answer.Fate == Decided && !e.Operation.Counter && e.Operation.Kind == Read && e.Answer.Status == 200 {
			told[e.Answer.Value] = e.Answer.ETag
		}
	}
	return told
}

// audit looks for what needs no search: a refused write whose value was seen after all, and one ETag on two values
// or two ETags on one value of a key (A→B→A would then go unseen).
func audit(all []Entry) []string {
	refused := map[string]bool{}
	for _, e := range all {
		if e.Answer.Fate == Refused && e.Operation.Value != "" {
			refused[e.Operation.Value] = true
		}
	}
	var violations []string
	values, tags := map[string]string{}, map[string]string{}
	for _, e := range all {
		value, shown := shownBy(e)
		if !shown {
			continue
		}
		if refused[value] && e.Operation.Kind == Read {
			violations = append(violations, fmt.Sprintf("%s shows %s, which was refused as not applied", e.Operation, value))
		}
		if e.Operation.Counter || e.Answer.ETag == "" {
			continue
		}
		tag := e.Operation.Key + " " + e.Answer.ETag
		if first, known := values[tag]; known && first != value {
			violations = append(violations, fmt.Sprintf("%s is the ETag of %s and of %s", tag, first, value))
		}
		values[tag] = value
		if first, known := tags[value]; known && first != e.Answer.ETag {
			violations = append(violations, fmt.Sprintf("%s of %s has the ETags %s and %s", value, e.Operation.Key, first, e.Answer.ETag))
		}
		tags[value] = e.Answer.ETag
	}
	return violations
}

// shownBy is the value that an answer is about: the one read, or the one stored.
func shownBy(e Entry) (string, bool) {
	if e.Answer.Fate != Decided {
		return "", false
	}
	switch e.Operation.Kind {
	case Read:
		return e.Answer.Value, e.Answer.Status == 200
	case Put, Create, Swap:
		return e.Operation.Value, e.Answer.Status < 300
	}
	return "", false
}

// Format writes the history of one key, a line an operation, in the order of their calls.
func Format(all []Entry, key string) string {
	var own []Entry
	for _, e := range all {
		if e.Operation.Key == key {
			own = append(own, e)
		}
	}
	slices.SortFunc(own, func(a, b Entry) int { return cmp.Compare(a.Call, b.Call) })
	var text strings.Builder
	for _, e := range own {
		fmt.Fprintf(&text, "  %10.6f - %10.6f  client %d  %s -> %s\n",
			float64(e.Call)/1e9, float64(e.Return)/1e9, e.Client, e.Operation, e.Answer)
	}
	return text.String()
}
