package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/rpc"
	"quipu/wallet"
)

// Exit codes. They are part of the interface: none ever changes its meaning. helptext.go explains them.
const (
	exitOK          = 0
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitLocked      = 4 // passphrase needed or wrong, token
	exitUnreachable = 5 // node
	exitRejected    = 6 // by validation
	exitUnknown     = 7 // outcome unknown
	exitFunds       = 8
	exitRunning     = 9  // already running, lock held
	exitCheck       = 10 // check failed
	exitSpace       = 11 // disk space low
	exitData        = 12 // data directory unusable
	exitTerminal    = 13 // something is shown or asked on a terminal only
	exitInterrupted = 130
)

// exitError is a failure with its exit code and what to type next. It is printed once, by run.
type exitError struct {
	code int
	err  error
	hint string // one line each; may be empty
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// fail makes an exitError. The text says what failed and why; the hint what to type next.
func fail(code int, hint, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...), hint}
}

// usageError says that the command line can't be understood.
func usageError(hint, format string, args ...any) error {
	return fail(exitUsage, hint, format, args...)
}

// checkFailed says that the command ran and what it checked doesn't hold.
func checkFailed(hint, format string, args ...any) error {
	return fail(exitCheck, hint, format, args...)
}

// classify gives any error of our packages its exit code and hint.
func classify(err error) *exitError {
	var e *exitError
	if errors.As(err, &e) {
		return e
	}
	var space *ledger.LowSpaceError
	var rule *chain.RuleError
	var call *rpc.Error
	var gone *rpc.Unreachable
	var silent *rpc.NoAnswer
	var other *rpc.HTTPError
	var words *wallet.MnemonicError
	switch {
	case errors.Is(err, context.Canceled):
		return &exitError{exitInterrupted, errors.New("interrupted"), ""}
	case errors.As(err, &space):
		return &exitError{exitSpace, err, "df -h " + shellQuote(space.Dir) + "\nquipu chain compact --prune 10000 --to DIR, a new directory on another disk"}
	case errors.Is(err, ledger.ErrLocked):
		return &exitError{exitRunning, err, ""}
	case errors.Is(err, ledger.ErrNoLedger), errors.Is(err, ledger.ErrPruned), errors.Is(err, ledger.ErrRollback), errors.Is(err, ledger.ErrNoMark):
		return &exitError{exitNotFound, err, ""}
	case errors.Is(err, ledger.ErrWrongGenesis), errors.Is(err, ledger.ErrNewerSchema), errors.Is(err, ledger.ErrOlderSchema), errors.Is(err, ledger.ErrCorrupt), errors.Is(err, ledger.ErrNoAccess):
		return &exitError{exitData, err, ""}
	case errors.As(err, &gone):
		cause := gone.Err
		if op := (*net.OpError)(nil); errors.As(cause, &op) {
			cause = op.Err // the rest repeats the address
		}
		return &exitError{exitUnreachable, fmt.Errorf("no node answers at %s (from %s): %w", gone.URL, gone.Source, cause),
			"quipu node run\nquipu testnet up\nadd --rpc URL to ask another node"}
	case errors.As(err, &silent):
		return &exitError{exitUnreachable, err, "quipu status"}
	case errors.As(err, &other):
		return &exitError{exitUnreachable, err, "add --rpc URL to ask another node"}
	case errors.Is(err, rpc.ErrAddrInUse):
		return &exitError{exitRunning, err, ""}
	case errors.As(err, &call):
		return classifyCall(call)
	case errors.Is(err, wallet.ErrWrongPassphrase), errors.Is(err, wallet.ErrPassphraseRequired), errors.Is(err, wallet.ErrPermissions):
		return &exitError{exitLocked, err, wallet.Hint(err)}
	case errors.Is(err, wallet.ErrDamaged), errors.Is(err, wallet.ErrNewer):
		return &exitError{exitData, err, wallet.Hint(err)}
	case errors.Is(err, wallet.ErrNotFound):
		return &exitError{exitNotFound, err, wallet.Hint(err)}
	case errors.As(err, &words):
		return &exitError{exitUsage, fmt.Errorf("these words are no wallet: %w", err), ""}
	case errors.Is(err, wallet.ErrName), errors.Is(err, wallet.ErrPayment), errors.Is(err, wallet.ErrExists), errors.Is(err, wallet.ErrNetwork):
		return &exitError{exitUsage, err, wallet.Hint(err)}
	case errors.As(err, &rule):
		return &exitError{exitRejected, err, ""}
	case errors.Is(err, fs.ErrNotExist):
		return &exitError{exitNotFound, err, ""}
	}
	return &exitError{exitOther, err, wallet.Hint(err)}
}

// classifyCall is classify for what a node answered.
func classifyCall(e *rpc.Error) *exitError {
	code := exitOther
	switch e.Data.Name {
	case rpc.NameInvalidParams:
		code = exitUsage
	case rpc.NameNotFound:
		code = exitNotFound
	case rpc.NameUnauthorized, rpc.NameForbidden:
		code = exitLocked
	case rpc.NameRejected, rpc.NameRefused, rpc.NameUnavailable:
		code = exitRejected
	case rpc.NameFunds:
		code = exitFunds
	case rpc.NameTimeout:
		code = exitUnknown
	case rpc.NameNotReady, rpc.NameBusy:
		code = exitUnreachable
	}
	return &exitError{code, errors.New(e.Message), e.Data.Hint}
}

// report prints the error once and returns its exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	e := classify(err)
	fmt.Fprintf(a.err, "quipu: %v\n", e.err)
	for line := range splitLines(e.hint) {
		fmt.Fprintf(a.err, "  try: %s\n", a.typed(line))
	}
	return e.code
}

// program is how this binary was started, for hints that can be typed as they stand.
func program() string {
	if isGoRun(os.Args[0]) {
		return "go run ./cmd/quipu"
	}
	return "quipu"
}

// typed is a command line that begins with "quipu", as it has to be typed here, with the flags that say which node,
// directory or network is meant, if this command was given them. Words after a comma or several spaces explain the line.
func (a *app) typed(line string) string {
	flag := func(name, value string, of []string) {
		verb := func(v string) bool {
			return line == v || strings.HasPrefix(line, v+" ") || strings.HasPrefix(line, v+",")
		}
		if value == "" || !slices.ContainsFunc(of, verb) || strings.Contains(line, name+" ") {
			return
		}
		end := len(line)
		for _, mark := range []string{", ", "  "} {
			if i := strings.Index(line, mark); i >= 0 {
				end = min(end, i)
			}
		}
		line = line[:end] + " " + name + " " + shellQuote(value) + line[end:]
	}
	flag("--rpc", a.rpc, askingNode)
	flag("--data-dir", a.dataDir, usingDataDir)
	flag("--name", a.testnet, usingTestnet)
	return typed(line)
}

// Which commands take which of these flags; a test holds this against the command tree.
var (
	askingNode = []string{"quipu send", "quipu status", "quipu tx", "quipu peer", "quipu wallet", "quipu balance", "quipu account",
		"quipu chain head", "quipu chain block", "quipu chain blocks"}
	usingDataDir = []string{"quipu node run", "quipu bootnode", "quipu chain verify", "quipu chain export", "quipu chain import", "quipu chain info",
		"quipu chain rollback", "quipu chain reconsider", "quipu chain reindex", "quipu chain compact"}
	usingTestnet = []string{"quipu testnet"}
)

// typed is a command line that begins with "quipu", as it has to be typed here.
func typed(line string) string {
	if rest, ok := strings.CutPrefix(line, "quipu "); ok {
		return program() + " " + rest
	}
	return line
}
