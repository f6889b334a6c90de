package rpc

import (
	"context"
	"errors"
	"fmt"

	"quipu/chain"
)

// Name is the stable name of a kind of failure, in data.name of every error.
type Name string

// Protocol errors have the codes of the JSON-RPC 2.0 specification §5.1. The others are ours, outside its reserved
// range, and never change.
const (
	NameParse          Name = "parse_error"
	NameInvalidRequest Name = "invalid_request"
	NameMethodNotFound Name = "method_not_found"
	NameInvalidParams  Name = "invalid_params"
	NameInternal       Name = "internal_error"

	NameNotFound     Name = "not_found"        // no such block, transaction or peer
	NameUnauthorized Name = "token_required"   // an admin method without a token
	NameForbidden    Name = "token_wrong"      // an admin method with another token
	NameRejected     Name = "rejected"         // the value given breaks a rule of the chain; data.rule names it
	NameRefused      Name = "refused"          // no rule is broken, this node's policy or state says no
	NameFunds        Name = "not_enough_funds" // the account can't pay
	NameNotReady     Name = "not_ready"        // still syncing or stopping
	NameTimeout      Name = "timeout"          // the node took too long; the outcome is unknown
	NameTooLarge     Name = "too_large"        // the answer or the request exceeds a limit
	NameBusy         Name = "busy"             // a limit on simultaneous work is reached
	NameUnavailable  Name = "not_available"    // this node runs without what the method needs
)

var codes = map[Name]struct {
	code      int
	retryable bool
}{
	NameParse:          {-32700, false},
	NameInvalidRequest: {-32600, false},
	NameMethodNotFound: {-32601, false},
	NameInvalidParams:  {-32602, false},
	NameInternal:       {-32603, false},
	NameNotFound:       {1001, false},
	NameUnauthorized:   {1002, false},
	NameForbidden:      {1003, false},
	NameRejected:       {1004, false},
	NameRefused:        {1005, true},
	NameFunds:          {1006, true},
	NameNotReady:       {1007, true},
	NameTimeout:        {1008, true},
	NameTooLarge:       {1009, false},
	NameBusy:           {1010, true},
	NameUnavailable:    {1011, false},
}

// Error is a failed call as it stands on the wire. A method returns one (Errorf) to choose its name; a
// chain.RuleError becomes "rejected", an expired context "timeout", anything else "internal_error".
type Error struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Data    ErrorData `json:"data"`
}

// ErrorData is what a program decides on and what a person does next.
type ErrorData struct {
	Name      Name   `json:"name"`
	Hint      string `json:"hint,omitempty"` // what to do next
	Retryable bool   `json:"retryable"`      // the same call may succeed later
	Rule      string `json:"rule,omitempty"` // the chain.ErrorKind that was broken
}

func (e *Error) Error() string {
	if e.Data.Hint == "" {
		return e.Message
	}
	return e.Message + ": " + e.Data.Hint
}

// Errorf makes an error of a known name; hint may be empty.
func Errorf(name Name, hint, format string, args ...any) *Error {
	c := codes[name]
	return &Error{Code: c.code, Message: fmt.Sprintf(format, args...), Data: ErrorData{Name: name, Hint: hint, Retryable: c.retryable}}
}

// Is reports whether err is a failed call of this name.
func Is(err error, name Name) bool {
	var e *Error
	return errors.As(err, &e) && e.Data.Name == name
}

// AsError is the wire form of any error a method returned.
func AsError(err error) *Error {
	var e *Error
	var rule *chain.RuleError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &rule):
		out := Errorf(NameRejected, "", "%s", rule.Desc)
		out.Data.Rule = string(rule.Kind)
		return out
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(NameTimeout, "the node is busy; ask again", "the call took too long")
	case errors.Is(err, context.Canceled):
		return Errorf(NameNotReady, "", "the node is stopping or the caller went away")
	}
	return Errorf(NameInternal, "see the node's log", "%v", err)
}
