package chain

import (
	"errors"
	"fmt"
	"strings"
)

// ErrorKind names the rule of docs/spec.md that was broken. Kinds are comparable with errors.Is.
type ErrorKind string

func (k ErrorKind) Error() string { return string(k) }

// The kinds, grouped by the stage that finds them. Each carries the number of its rule in docs/spec.md; a test holds
// these comments against the table there. H1, the parent is known, has no kind: see ErrUnknownParent.
const (
	// Decoding: D1 to D5.
	ErrTxVersion ErrorKind = "tx-version"     // D1
	ErrNoOutputs ErrorKind = "tx-no-outputs"  // D2
	ErrMemoSize  ErrorKind = "tx-memo-size"   // D3
	ErrTruncated ErrorKind = "truncated"      // D4
	ErrTrailing  ErrorKind = "trailing-bytes" // D5: bytes after a single value

	// Stateless transaction rules: T1 to T4.
	ErrZeroAmount ErrorKind = "tx-zero-amount" // T1
	ErrFeeTooLow  ErrorKind = "tx-fee-too-low" // T2
	ErrOverSupply ErrorKind = "tx-over-supply" // T3
	ErrSignature  ErrorKind = "tx-signature"   // T4

	// Header rules: H2 to H9.
	ErrHeight      ErrorKind = "header-height"       // H2
	ErrVersion     ErrorKind = "header-version"      // H3: see ErrUpgrade for a version above all we know
	ErrTimeOrder   ErrorKind = "header-time-order"   // H4: not after the parent's
	ErrTimeLimit   ErrorKind = "header-time-limit"   // H4: not below 2^53
	ErrBits        ErrorKind = "header-bits"         // H5
	ErrWork        ErrorKind = "header-work"         // H6
	ErrHistoryRoot ErrorKind = "header-history-root" // H7
	ErrBodySize    ErrorKind = "header-body-size"    // H8
	ErrTxCount     ErrorKind = "header-tx-count"     // H9

	// A body that isn't this header's: the server's fault, never the block's. B1, B2.
	ErrBodyDecode ErrorKind = "body-decode"  // B1
	ErrTxRoot     ErrorKind = "body-tx-root" // B2

	// A body that gives tx_root and yet breaks a rule makes the block invalid: B3 to B5, T1 to T4, then A1 to A4.
	ErrBodyCount  ErrorKind = "body-tx-count" // B3
	ErrBodyLength ErrorKind = "body-size"     // B4
	ErrExpired    ErrorKind = "tx-expired"    // B5
	ErrNonce      ErrorKind = "tx-nonce"      // A1
	ErrBalance    ErrorKind = "tx-balance"    // A2
	ErrCreateFee  ErrorKind = "tx-create-fee" // A3: the fee doesn't pay for accounts it creates
	ErrStateRoot  ErrorKind = "state-root"    // A4

	ErrGenesis ErrorKind = "genesis" // G1 to G4: JSON text, canonical bytes, bounds, supply
)

// Sentinels: nobody's fault.
var (
	ErrUnknownParent = errors.New("parent header is not known")               // H1
	ErrUpgrade       = errors.New("made for a newer program: upgrade needed") // header version above ours
)

// RuleError says that whoever made this value broke a rule. For a transaction only the stateless stages return it.
type RuleError struct {
	Kind ErrorKind
	Desc string
}

func (e *RuleError) Error() string { return string(e.Kind) + ": " + e.Desc }
func (e *RuleError) Unwrap() error { return e.Kind }

func ruleError(k ErrorKind, format string, args ...any) *RuleError {
	return &RuleError{Kind: k, Desc: fmt.Sprintf(format, args...)}
}

// WrongBody reports whether err means that a body isn't the one its header commits to. It blames whoever served
// the body; the block itself may be valid.
func WrongBody(err error) bool { return errors.Is(err, ErrBodyDecode) || errors.Is(err, ErrTxRoot) }

// blockFault turns an Overlay's error, which names a kind but blames nobody, into blame for the block it stands in.
func blockFault(err error) error {
	var k ErrorKind
	errors.As(err, &k)
	return &RuleError{Kind: k, Desc: strings.TrimPrefix(err.Error(), string(k)+": ")}
}
