package wallet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// reader takes the keys of one JSON object, each exactly once and in its exact
// spelling. encoding/json alone takes duplicates, other cases and null. The
// first fault stays in err; done also refuses keys nobody asked for.
type reader struct {
	fields map[string]json.RawMessage
	err    error
}

const maxFields = 64

// object splits raw into its fields; keys keep their spelling, duplicates are refused.
func object(raw []byte) *reader {
	r := &reader{fields: map[string]json.RawMessage{}}
	if !json.Valid(raw) || len(bytes.TrimLeft(raw, " \t\r\n")) == 0 || bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		r.err = damaged("it isn't a whole JSON object")
		return r
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil { // {
		r.err = damaged("it isn't a JSON object")
		return r
	}
	for dec.More() {
		tok, err := dec.Token()
		key, ok := tok.(string)
		if err != nil || !ok || len(r.fields) == maxFields {
			r.err = damaged("it isn't a JSON object of this kind")
			return r
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			r.err = damaged("it isn't a JSON object")
			return r
		}
		if _, dup := r.fields[key]; dup {
			r.err = damaged(quoteKey(key) + " is there twice")
			return r
		}
		r.fields[key] = v
	}
	if _, err := dec.Token(); err != nil && err != io.EOF {
		r.err = damaged("it isn't a JSON object")
	}
	return r
}

func (r *reader) raw(key string) []byte {
	v, ok := r.fields[key]
	if !ok {
		r.fail(key, "is missing")
		return nil
	}
	delete(r.fields, key)
	return v
}

func (r *reader) fail(key, what string) {
	if r.err == nil {
		r.err = damaged(quoteKey(key) + " " + what)
	}
}

// text reads a string of 0x20 to 0x7e, at most max bytes.
func (r *reader) text(key string, max int) string {
	v := r.raw(key)
	var s string
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil || len(s) > max {
		r.fail(key, "is not a text of at most "+strconv.Itoa(max)+" characters")
		return ""
	}
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			r.fail(key, "has a character that isn't printable ASCII")
			return ""
		}
	}
	return s
}

// bytes reads exactly len(dst) bytes of lower-case hex.
func (r *reader) bytes(key string, dst []byte) {
	s := r.text(key, 2*len(dst))
	if err := unhexStrict(s, dst); err != nil {
		r.fail(key, err.Error())
	}
}

// number reads plain digits below 2^32 without leading zeros.
func (r *reader) number(key string) uint32 {
	v := string(r.raw(key))
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != v {
		r.fail(key, "is not a whole number below 2^32")
		return 0
	}
	return uint32(n)
}

func (r *reader) flag(key string) bool {
	switch string(r.raw(key)) {
	case "true":
		return true
	case "false":
		return false
	}
	r.fail(key, "is neither true nor false")
	return false
}

func (r *reader) done() error {
	if r.err == nil {
		for key := range r.fields {
			return damaged(quoteKey(key) + " is not a key of this file")
		}
	}
	return r.err
}

// quoteKey shows a key from outside, cut to a line.
func quoteKey(key string) string { return fmt.Sprintf("%.40q", key) }

func unhexStrict(s string, dst []byte) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) || hex.EncodeToString(b) != s {
		return errors.New("is not " + strconv.Itoa(len(dst)) + " bytes in lower-case hex")
	}
	copy(dst, b)
	return nil
}
