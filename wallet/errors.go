package wallet

import "errors"

// What can go wrong with a wallet file. An *Error wraps one of these; compare
// with errors.Is. None carries a secret.
var (
	ErrNotFound           = errors.New("no wallet here")
	ErrExists             = errors.New("there is already a file here, it was left as it is")
	ErrPermissions        = errors.New("other users of this machine can read this wallet file")
	ErrWrongPassphrase    = errors.New("wrong passphrase, or the file is damaged")
	ErrPassphraseRequired = errors.New("a wallet on this network needs a passphrase")
	ErrDamaged            = errors.New("the wallet file is damaged")
	ErrNewer              = errors.New("the wallet file was made for a newer program")
	ErrChanged            = errors.New("the wallet file was changed since it was opened")
	ErrName               = errors.New("not a wallet name")
	ErrNetwork            = errors.New("this wallet belongs to another network")
	ErrNoAccount          = errors.New("this wallet has no such account")
	ErrNoMnemonic         = errors.New("this wallet holds a single key, which has no words")
	ErrClosed             = errors.New("the wallet is closed")
)

// hints say in one sentence what to do next.
var hints = map[error]string{
	ErrNotFound:           "Make one with 'quipu wallet new', or look at 'quipu wallet list'.",
	ErrExists:             "Choose another name; wallet files are never overwritten.",
	ErrPermissions:        "Make it private to you, then try again.",
	ErrWrongPassphrase:    "Try again, or open a backup with the same passphrase; the words you wrote down restore it without one.",
	ErrPassphraseRequired: "Give a passphrase that isn't empty.",
	ErrDamaged:            "Use a backup of the file, or restore the wallet from the words you wrote down.",
	ErrNewer:              "Update quipu; the file itself may be fine.",
	ErrChanged:            "Open it again and repeat the step.",
	ErrName:               "Use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit.",
	ErrNetwork:            "Choose the wallet's own network, or make a wallet for this one.",
	ErrNoAccount:          "List its accounts with 'quipu wallet address'.",
	ErrNoMnemonic:         "Back up the wallet file instead.",
}

// Error is a failure with a wallet file: what, where, and what to do.
type Error struct {
	Kind   error  // one of the Err… values of this package, or the operating system's error
	Path   string // "" if no file is involved
	Detail string // may be ""
	hint   string
}

func (e *Error) Error() string {
	s := e.Kind.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	return s
}

func (e *Error) Unwrap() error { return e.Kind }

// Hint is one sentence that says what to do, or "".
func (e *Error) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return hints[e.Kind]
}

// Hint returns the hint of an error of this package, or "".
func Hint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint()
	}
	return hints[err]
}

// at adds the path to an error made where only bytes were known.
func at(path string, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Path == "" {
		c := *e
		c.Path = path
		return &c
	}
	return err
}

func damaged(detail string) error { return &Error{Kind: ErrDamaged, Detail: detail} }
