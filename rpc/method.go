package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Entry is one method of a server's table. Method makes it.
type Entry struct {
	Name   string
	Doc    string // one sentence
	Admin  bool   // needs the token
	params reflect.Type
	result reflect.Type
	fields []field
	call   func(ctx context.Context, params json.RawMessage) (any, error)
}

// field is one named parameter.
type field struct {
	name     string
	optional bool
	typ      reflect.Type
}

// Method makes a table entry of a function from named parameters P, a struct with json tags, to a result R. A field
// tagged omitempty or omitzero is optional. If P has Validate() error, it is called on what was decoded.
func Method[P, R any](name, doc string, admin bool, fn func(context.Context, P) (R, error)) Entry {
	fields := fieldsOf(reflect.TypeFor[P]())
	return Entry{
		Name: name, Doc: doc, Admin: admin,
		params: reflect.TypeFor[P](), result: reflect.TypeFor[R](), fields: fields,
		call: func(ctx context.Context, raw json.RawMessage) (any, error) {
			var p P
			if err := decodeParams(raw, fields, &p); err != nil {
				return nil, err
			}
			if v, ok := any(p).(interface{ Validate() error }); ok {
				if err := v.Validate(); err != nil {
					return nil, err
				}
			}
			return fn(ctx, p)
		},
	}
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		out = append(out, field{name, strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero"), f.Type})
	}
	return out
}

// decodeParams reads named parameters into dst, a pointer to a struct with these fields.
func decodeParams(raw json.RawMessage, fields []field, dst any) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" || isEmptyArray(raw) {
		raw = json.RawMessage("{}")
	}
	if raw[0] == '[' {
		return Errorf(NameInvalidParams, "named parameters: "+signature(fields), "positional parameters are not taken")
	}
	members, err := object(raw, func(key string) bool {
		return slices.ContainsFunc(fields, func(f field) bool { return f.name == key })
	})
	if err != nil {
		return Errorf(NameInvalidParams, "named parameters: "+signature(fields), "params: %v", err)
	}
	for _, f := range fields {
		v, ok := members[f.name]
		if !ok && !f.optional {
			return Errorf(NameInvalidParams, "named parameters: "+signature(fields), "parameter %q is missing", f.name)
		}
		if ok && string(v) == "null" {
			return Errorf(NameInvalidParams, "leave it out instead", "parameter %q is null", f.name)
		}
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return Errorf(NameInvalidParams, "named parameters: "+signature(fields), "params: %v", err)
	}
	return nil
}

// isEmptyArray: libraries that know only positional parameters send [] for none.
func isEmptyArray(raw []byte) bool {
	return raw[0] == '[' && len(bytes.TrimSpace(bytes.TrimSuffix(raw[1:], []byte("]")))) == 0
}

func signature(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		if names[i] = f.name; f.optional {
			names[i] += "?"
		}
	}
	return "{" + strings.Join(names, ", ") + "}"
}

// object reads a JSON object into its members. Unlike encoding/json it compares keys exactly and refuses an unknown
// or repeated one, at the first.
func object(text []byte, allowed func(key string) bool) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object")
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("not a JSON object")
		}
		if !allowed(key) {
			return nil, fmt.Errorf("unknown key %.50q", key)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("key %q stands twice", key)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		out[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return nil, fmt.Errorf("more text after the object")
	}
	return out, nil
}
