package bench

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// A profile is what runtime/pprof writes of the CPU: samples, each a stack of function names, the innermost first.
type profile struct {
	stacks [][]string
	spent  []time.Duration // by stack
}

var errProfile = errors.New("the CPU profile does not decode")

// readProfile reads as much of a gzipped protocol buffer (github.com/google/pprof, proto/profile.proto) as says which
// functions were running: sample (2: location 1, value 2), location (4: id 1, line 4: function 1), function (5: id 1,
// name 2), string_table (6).
func readProfile(r io.Reader) (p profile, err error) {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return p, err
	}
	b, err := io.ReadAll(unzipped)
	if err != nil {
		return p, err
	}
	type sample struct{ locations, values []uint64 }
	var samples []sample
	locations, functions := map[uint64][]uint64{}, map[uint64]uint64{}
	var texts []string
	err = fields(b, func(tag int, _ uint64, b []byte) error {
		switch tag {
		case 2:
			var s sample
			samples = append(samples, s)
			last := &samples[len(samples)-1]
			return fields(b, func(tag int, v uint64, b []byte) error {
				switch tag {
				case 1:
					last.locations = packed(last.locations, v, b)
				case 2:
					last.values = packed(last.values, v, b)
				}
				return nil
			})
		case 4:
			id, lines := uint64(0), []uint64(nil)
			err := fields(b, func(tag int, v uint64, b []byte) error {
				switch tag {
				case 1:
					id = v
				case 4:
					return fields(b, func(tag int, v uint64, _ []byte) error {
						if tag == 1 {
							lines = append(lines, v)
						}
						return nil
					})
				}
				return nil
			})
			locations[id] = lines
			return err
		case 5:
			id, name := uint64(0), uint64(0)
			err := fields(b, func(tag int, v uint64, _ []byte) error {
				switch tag {
				case 1:
					id = v
				case 2:
					name = v
				}
				return nil
			})
			functions[id] = name
			return err
		case 6:
			texts = append(texts, string(b))
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	for _, s := range samples {
		if len(s.values) < 2 {
			return p, errProfile
		}
		var stack []string
		for _, l := range s.locations {
			for _, f := range locations[l] {
				if name := functions[f]; name < uint64(len(texts)) {
					stack = append(stack, texts[name])
				}
			}
		}
		p.stacks, p.spent = append(p.stacks, stack), append(p.spent, time.Duration(s.values[1]))
	}
	return p, nil
}

// fields calls f with each field of a protocol buffer: its number, and its value as a number or as bytes.
func fields(b []byte, f func(tag int, v uint64, b []byte) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errProfile
		}
		b = b[n:]
		var v uint64
		var sub []byte
		switch key & 7 {
		case 0, 2:
			if v, n = binary.Uvarint(b); n <= 0 {
				return errProfile
			}
			b = b[n:]
			if key&7 == 2 {
				if v > uint64(len(b)) {
					return errProfile
				}
				sub, b = b[:v], b[v:]
			}
		case 1, 5:
			width := 8
			if key&7 == 5 {
				width = 4
			}
			if len(b) < width {
				return errProfile
			}
			b = b[width:]
		default:
			return errProfile
		}
		if err := f(int(key>>3), v, sub); err != nil {
			return err
		}
	}
	return nil
}

// packed adds a repeated number, which is written alone or many in one field.
func packed(to []uint64, v uint64, b []byte) []uint64 {
	if b == nil {
		return append(to, v)
	}
	for len(b) > 0 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return to
		}
		to, b = append(to, v), b[n:]
	}
	return to
}
