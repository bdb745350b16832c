package history

import (
	"strconv"

	"github.com/anishathalye/porcupine"
)

// state is what the model holds of one key.
type state struct {
	present bool
	value   string
	// etag of the value; "" when no answer has ever told it.
	etag string
}

// model is one entry of the cache, as protocol.md promises it: each operation takes effect at one instant between its
// call and its answer.
var model = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		keys := map[string]int{}
		var parts [][]porcupine.Operation
		for _, one := range all {
			key := one.Input.(Operation).Key
			at, known := keys[key]
			if !known {
				at = len(parts)
				keys[key] = at
				parts = append(parts, nil)
			}
			parts[at] = append(parts[at], one)
		}
		return parts
	},
	Init: func() any { return state{} },
	Step: func(before, input, output any) (bool, any) {
		return step(before.(state), input.(Operation), output.(Answer))
	},
	DescribeOperation: func(input, output any) string {
		return input.(Operation).String() + " -> " + output.(Answer).String()
	},
	DescribeState: func(s any) string {
		if now := s.(state); now.present {
			return now.value + " " + now.etag
		}
		return "absent"
	},
}

// step says whether the answer is right for an operation on an entry, and what the entry is afterwards.
func step(before state, o Operation, a Answer) (bool, state) {
	after, right := effect(before, o, a)
	if a.Fate == Unknown {
		// Any answer would do. An operation that never had an effect stands at the end, where nobody sees it.
		return true, after
	}
	if a.Status != right.Status {
		return false, before
	}
	switch {
	case o.Kind == Read && a.Status == 200, o.Kind == Increment:
		if a.Value != right.Value {
			return false, before
		}
	}
	// After a 412 the ETag is the present entry's; after a read the value's. Where the model knows none, any will do.
	if a.ETag != "" && right.ETag != "" && a.ETag != right.ETag {
		return false, before
	}
	return true, after
}

// effect is what an operation does to an entry and what it must be answered. The ETag of a new value is taken from
// the answer, since the cache chooses it.
func effect(before state, o Operation, a Answer) (state, Answer) {
	stored := state{present: true, value: o.Value, etag: a.ETag}
	if o.Counter {
		stored.etag = ""
	}
	matches := before.present && before.etag == o.Match
	failed := Answer{Status: 412, ETag: before.etag}
	switch o.Kind {
	case Read:
		if before.present {
			return before, Answer{Status: 200, Value: before.value, ETag: before.etag}
		}
		return before, Answer{Status: 404}
	case Put:
		if before.present {
			return stored, Answer{Status: 204}
		}
		return stored, Answer{Status: 201}
	case Create:
		if before.present {
			return before, failed
		}
		return stored, Answer{Status: 201}
	case Swap:
		if matches {
			return stored, Answer{Status: 204}
		}
		return before, failed
	case Delete:
		if before.present {
			return state{}, Answer{Status: 204}
		}
		return before, Answer{Status: 404}
	case Remove:
		if matches {
			return state{}, Answer{Status: 204}
		}
		return before, failed
	default: // Increment; counters hold nothing but numbers
		sum := o.By
		if before.present {
			number, _ := strconv.ParseInt(before.value, 10, 64)
			sum += number
		}
		text := strconv.FormatInt(sum, 10)
		return state{present: true, value: text}, Answer{Status: 200, Value: text}
	}
}
