package rpc

import (
	"context"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"quipu/chain"
)

// discoverEntry is rpc.discover: an OpenRPC 1.3 document of the table, itself left out as EIP-1901 has it.
func discoverEntry(table []Entry) Entry {
	doc := Discover(table)
	return Method("rpc.discover", "This document.", false, func(context.Context, NoParams) (json.RawMessage, error) { return doc, nil })
}

type schema map[string]any

// Discover describes a table as an OpenRPC 1.3 document, methods in the table's order. Named types stand once, under
// components.
func Discover(table []Entry) json.RawMessage {
	d := describer{types: schema{}}
	methods := []any{}
	for _, e := range table {
		params := []any{}
		for _, f := range e.fields {
			params = append(params, schema{"name": f.name, "required": !f.optional, "schema": d.of(f.typ)})
		}
		m := schema{
			"name": e.Name, "summary": e.Doc, "paramStructure": "by-name", "params": params,
			"result": schema{"name": "result", "schema": d.of(e.result)},
		}
		if e.Admin {
			m["x-needs-token"] = true
		}
		methods = append(methods, m)
	}
	text, err := json.MarshalIndent(schema{
		"openrpc":    "1.3.2",
		"info":       schema{"title": "quipu", "version": "1"},
		"methods":    methods,
		"components": schema{"schemas": d.types, "errors": errorList()},
	}, "", "  ")
	if err != nil {
		panic(err) // maps of strings, booleans and integers always marshal
	}
	return text
}

func errorList() []any {
	names := []Name{}
	for n := range codes {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b Name) int { return codes[a].code - codes[b].code })
	out := []any{}
	for _, n := range names {
		out = append(out, schema{"code": codes[n].code, "message": n, "data": schema{"name": n, "retryable": codes[n].retryable}})
	}
	return out
}

// describer makes JSON schemas of Go types and collects the named structs among them.
type describer struct{ types schema }

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
	textType = reflect.TypeFor[encoding.TextMarshaler]()
)

func (d *describer) of(t reflect.Type) schema {
	switch {
	case t.Kind() == reflect.Pointer:
		return d.of(t.Elem())
	case t == timeType:
		return schema{"type": "string", "format": "date-time"}
	case t == rawType:
		return schema{}
	case t == reflect.TypeFor[Decimal]():
		return schema{"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}
	case t == reflect.TypeFor[chain.Account](), t.Kind() == reflect.Array && t.Implements(textType):
		return schema{"type": "string", "pattern": "^[0-9a-f]{64}$"}
	case t == reflect.TypeFor[TxState]():
		return schema{"type": "string", "enum": []TxState{TxUnknown, TxQueued, TxPending, TxIncluded, TxReplaced, TxExpired, TxDropped, TxRejected}}
	}
	switch t.Kind() {
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.Slice:
		return schema{"type": "array", "items": d.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": d.of(t.Elem())}
	case reflect.Struct:
		return d.structure(t)
	}
	return schema{"type": "integer"}
}

func (d *describer) structure(t reflect.Type) schema {
	name := t.Name()
	ref := schema{"$ref": "#/components/schemas/" + name}
	if _, done := d.types[name]; done {
		return ref
	}
	properties, required := schema{}, []string{}
	d.types[name] = schema{} // a type that holds itself stops here
	for _, f := range fieldsOf(t) {
		properties[f.name] = d.of(f.typ)
		if !f.optional {
			required = append(required, f.name)
		}
	}
	d.types[name] = schema{"type": "object", "properties": properties, "required": required}
	return ref
}

// Names lists the methods of a table, for help texts and completion.
func Names(table []Entry) string {
	names := make([]string, len(table))
	for i, e := range table {
		names[i] = e.Name
	}
	return strings.Join(names, " ")
}
