package wallet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"quipu/chain"
)

// Options are how a wallet is made.
type Options struct {
	Genesis *chain.Genesis // the one network the wallet signs for
	KDF     KDF            // zero: DefaultKDF, or LightKDF without a passphrase
	Words   int            // of a new wallet: 12, 15, 18, 21 or 24; 0 is 12
	// NoPassphrase allows the empty passphrase. For throw-away networks only:
	// whoever reads the file can spend.
	NoPassphrase bool
}

// Wallet is an open wallet: its secret is in memory until Close. Reading and
// signing may go on at once; what writes the file (NewAccount, SetBackedUp,
// ChangePassphrase) and Close may not run beside anything else.
type Wallet struct {
	path     string
	raw      []byte // of the file as last read or written
	file     *keyFile
	secret   *secret
	key      []byte  // of the seal, so that a rewrite costs no second argon2id
	accounts *extKey // m/44'/4820'/0'/0; nil for KindKey
	prefix   string
}

// Create makes a wallet with fresh random words in a new file, opened. The
// wallet's name is the file's, without ".json". The file is never overwritten.
func Create(path string, o Options, passphrase []byte) (*Wallet, error) {
	n := o.Words
	if n == 0 {
		n = 12
	}
	if n%3 != 0 {
		return nil, errEntropyLen
	}
	entropy, err := NewEntropy(n / 3 * 32)
	if err != nil {
		return nil, err
	}
	return create(path, o, passphrase, false, &secret{KindSeed, 1, entropy})
}

// Restore makes a wallet file from words. Errors in the words are
// *MnemonicError. The file counts as backed up, since the words exist.
func Restore(path string, o Options, mnemonic string, passphrase []byte) (*Wallet, error) {
	entropy, err := DecodeMnemonic(mnemonic)
	if err != nil {
		return nil, err
	}
	return create(path, o, passphrase, true, &secret{KindSeed, 1, entropy})
}

// Import makes a wallet file from one secret key.
func Import(path string, o Options, key *[32]byte, passphrase []byte) (*Wallet, error) {
	return create(path, o, passphrase, false, &secret{KindKey, 1, slices.Clone(key[:])})
}

// create owns s.
func create(path string, o Options, passphrase []byte, backedUp bool, s *secret) (*Wallet, error) {
	w := &Wallet{path: path, secret: s}
	if err := w.create(o, passphrase, backedUp); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Wallet) create(o Options, passphrase []byte, backedUp bool) error {
	name, ok := strings.CutSuffix(filepath.Base(w.path), suffix)
	if err := CheckName(name); err != nil || !ok {
		return &Error{Kind: ErrName, Detail: strconv.Quote(filepath.Base(w.path))}
	}
	if o.Genesis == nil {
		return errors.New("wallet: Options.Genesis is missing")
	}
	if len(passphrase) == 0 && !o.NoPassphrase {
		return &Error{Kind: ErrPassphraseRequired, Path: w.path}
	}
	w.prefix = o.Genesis.Prefix
	w.file = &keyFile{Info: Info{
		Name: name, Network: o.Genesis.Name, NetworkID: o.Genesis.NetworkID(),
		BackedUp: backedUp, HasPassphrase: len(passphrase) > 0,
	}}
	if err := w.derive(); err != nil {
		return err
	}
	address, err := w.Address(0)
	if err != nil {
		return err
	}
	w.file.Address = address
	kdf := o.KDF
	if kdf == (KDF{}) && len(passphrase) > 0 {
		kdf = DefaultKDF
	} else if kdf == (KDF{}) {
		kdf = LightKDF
	}
	if err := w.setKey(kdf, passphrase); err != nil {
		return err
	}
	if w.raw, err = w.file.seal(w.key, w.secret); err != nil {
		return err
	}
	return createFile(w.path, w.raw)
}

// Open decrypts a wallet file. The passphrase of a wallet that has none is
// ignored. It fails with ErrNotFound, ErrPermissions, ErrDamaged, ErrNewer or
// ErrWrongPassphrase.
func Open(path string, passphrase []byte) (*Wallet, error) {
	// A rewrite goes to the file a link leads to.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	raw, f, err := loadFile(path)
	if err != nil {
		return nil, err
	}
	w := &Wallet{path: path, raw: raw, file: f}
	w.prefix = f.prefix()
	if w.secret, w.key, err = f.open(passphrase); err != nil {
		return nil, at(path, err)
	}
	if err := w.derive(); err != nil {
		w.Close()
		return nil, at(path, damaged(err.Error()))
	}
	if address, err := w.Address(0); err != nil || address != f.Address {
		w.Close()
		return nil, at(path, damaged("its address is not that of its key"))
	}
	return w, nil
}

// Info is the clear part of the file.
func (w *Wallet) Info() Info { return w.file.Info }

// Path is the wallet's file.
func (w *Wallet) Path() string { return w.path }

// Kind says whether the wallet holds a seed or a key; 0 once it is closed.
func (w *Wallet) Kind() Kind {
	if w.secret == nil {
		return 0
	}
	return w.secret.kind
}

// Accounts is how many accounts were handed out: 0 to Accounts()-1 are in use.
func (w *Wallet) Accounts() uint32 {
	if w.secret == nil {
		return 0
	}
	return w.secret.next
}

// Account is the wallet's account i. A seed wallet has 2^31 of them, whether
// handed out or not; a key wallet has only account 0.
func (w *Wallet) Account(i uint32) (chain.Account, error) {
	k, err := w.Key(i)
	if err != nil {
		return chain.Account{}, err
	}
	defer k.Zero()
	return k.Account(), nil
}

// Address is account i as text, for the wallet's network.
func (w *Wallet) Address(i uint32) (string, error) {
	a, err := w.Account(i)
	if err != nil {
		return "", err
	}
	return chain.EncodeAddress(w.prefix, a), nil
}

// Sign signs tx, sent from account i, for the wallet's network.
func (w *Wallet) Sign(i uint32, tx *chain.Tx) error {
	k, err := w.Key(i)
	if err != nil {
		return err
	}
	defer k.Zero()
	return k.Sign(w.file.NetworkID, tx)
}

// Key is the secret key of account i: m/44'/4820'/0'/0/i of a seed. The caller
// zeroes it. It signs for any network; Wallet.Sign keeps to the wallet's own.
func (w *Wallet) Key(i uint32) (*Key, error) {
	switch {
	case w.secret == nil:
		return nil, &Error{Kind: ErrClosed, Path: w.path}
	case w.secret.kind == KindKey && i == 0:
		return NewKey((*[32]byte)(w.secret.bytes))
	case w.secret.kind == KindKey || i > MaxIndex:
		return nil, &Error{Kind: ErrNoAccount, Path: w.path, Detail: fmt.Sprintf("number %d", i)}
	}
	child, err := w.accounts.child(i)
	if err != nil {
		return nil, err
	}
	defer child.zero()
	return NewKey(&child.key)
}

// CheckNetwork fails with ErrNetwork unless the wallet was made for g.
func (w *Wallet) CheckNetwork(g *chain.Genesis) error { return w.file.Info.CheckNetwork(g) }

// CheckNetwork fails with ErrNetwork unless the wallet was made for g.
func (i Info) CheckNetwork(g *chain.Genesis) error {
	if i.NetworkID != g.NetworkID() {
		return &Error{Kind: ErrNetwork, Detail: fmt.Sprintf("%s is for %s (%s), this is %s",
			i.Name, i.Network, i.NetworkID.Short(), g)}
	}
	return nil
}

// Mnemonic is the wallet's words: whoever has them has all its accounts.
// ErrNoMnemonic if it holds a single key.
func (w *Wallet) Mnemonic() (string, error) {
	if w.secret == nil {
		return "", &Error{Kind: ErrClosed, Path: w.path}
	}
	if w.secret.kind != KindSeed {
		return "", &Error{Kind: ErrNoMnemonic, Path: w.path}
	}
	return EncodeMnemonic(w.secret.bytes)
}

// NewAccount hands out the next account of a seed wallet and records that in
// the file. It returns the account's index.
func (w *Wallet) NewAccount() (uint32, error) {
	if w.secret == nil {
		return 0, &Error{Kind: ErrClosed, Path: w.path}
	}
	if w.secret.kind != KindSeed || w.secret.next >= MaxIndex {
		return 0, &Error{Kind: ErrNoAccount, Path: w.path, Detail: "it can have no more"}
	}
	i := w.secret.next
	w.secret.next++
	if err := w.save(); err != nil {
		w.secret.next--
		return 0, err
	}
	return i, nil
}

// SetBackedUp records that the owner has shown to have the words.
func (w *Wallet) SetBackedUp() error {
	if w.secret == nil {
		return &Error{Kind: ErrClosed, Path: w.path}
	}
	before := w.file.BackedUp
	w.file.BackedUp = true
	if err := w.save(); err != nil {
		w.file.BackedUp = before
		return err
	}
	return nil
}

// ChangePassphrase seals the file with another passphrase, which can't be
// empty; a zero kdf is DefaultKDF. Backups keep the old one.
func (w *Wallet) ChangePassphrase(passphrase []byte, kdf KDF) error {
	if w.secret == nil {
		return &Error{Kind: ErrClosed, Path: w.path}
	}
	if len(passphrase) == 0 {
		return &Error{Kind: ErrPassphraseRequired, Path: w.path}
	}
	if kdf == (KDF{}) {
		kdf = DefaultKDF
	}
	before, beforeKey := *w.file, w.key
	w.file.HasPassphrase = true
	err := w.setKey(kdf, passphrase)
	if err == nil {
		err = w.save()
	}
	if err != nil {
		*w.file, w.key = before, beforeKey
		return err
	}
	clear(beforeKey)
	return nil
}

// Close forgets the secret as far as Go lets a program do so: what the garbage
// collector moved or a library copied is out of reach.
func (w *Wallet) Close() {
	if w.secret != nil {
		w.secret.zero()
	}
	if w.accounts != nil {
		w.accounts.zero()
	}
	clear(w.key)
	w.secret, w.accounts, w.key = nil, nil, nil
}

// Format keeps the secret out of every fmt verb.
func (w Wallet) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "wallet %s", w.path) }

// derive fills in what is computed from the secret.
func (w *Wallet) derive() (err error) {
	if w.secret.kind == KindSeed {
		w.accounts, err = accountsKey(w.secret.bytes)
	}
	return err
}

// setKey derives the seal's key from a passphrase and a fresh salt.
func (w *Wallet) setKey(kdf KDF, passphrase []byte) error {
	if err := kdf.Validate(); err != nil {
		return err
	}
	w.file.kdf = kdf
	rand.Read(w.file.salt[:])
	w.key = kdf.key(passphrase, w.file.salt[:])
	return nil
}

func (w *Wallet) save() error {
	f := *w.file
	raw, err := f.seal(w.key, w.secret)
	if err != nil {
		return err
	}
	if err := replaceFile(w.path, w.raw, raw); err != nil {
		return err
	}
	*w.file, w.raw = f, raw
	return nil
}
