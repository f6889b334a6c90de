package wallet

import (
	"crypto/rand"
	"errors"
	"fmt"

	"quipu/chain"
	"quipu/chain/bip340"
)

// Key is one secret key and its account. No fmt verb shows the secret.
type Key struct {
	secret  [32]byte
	account chain.Account
}

// NewKey takes a secret key of 32 bytes, big-endian, in 1..n-1; its account is
// the x coordinate of the public key (BIP-340).
func NewKey(secret *[32]byte) (*Key, error) {
	x, err := bip340.PublicKey(secret)
	if err != nil {
		return nil, err
	}
	return &Key{*secret, x}, nil
}

// GenerateKey makes a fresh random key.
func GenerateKey() *Key {
	for {
		var secret [32]byte
		rand.Read(secret[:])
		if k, err := NewKey(&secret); err == nil { // fails for 1 in 2^128
			return k
		}
	}
}

// Account is the key's account.
func (k *Key) Account() chain.Account { return k.account }

var errNotOurs = errors.New("this key doesn't belong to the sender of the transaction")

// Sign fills in the signature of tx for one network, with fresh randomness.
// The signature is verified before it is returned (bip340.Sign does). tx must
// be sent from this key's account and have an encoding, as Build's have.
func (k *Key) Sign(network chain.NetworkID, tx *chain.Tx) error {
	if tx.From != k.account {
		return errNotOurs
	}
	if len(tx.Outputs) < 1 || len(tx.Outputs) > chain.MaxOutputs || len(tx.Memo) > chain.MaxMemo {
		return &Error{Kind: ErrPayment, Detail: "it has no encoding"}
	}
	var aux [32]byte
	rand.Read(aux[:])
	id := tx.ID(network)
	sig, err := bip340.Sign(&k.secret, id[:], &aux)
	if err != nil {
		return err
	}
	tx.Signature = sig
	return nil
}

// Zero forgets the secret; the key can't sign any more.
func (k *Key) Zero() { clear(k.secret[:]) }

// Format keeps the secret out of every fmt verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key of account %s", k.account.String()) }
