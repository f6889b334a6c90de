package wallet

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"errors"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// CoinType is the BIP-44 coin type of the derivation path. It is quipu's p2p
// port number and is not registered in SLIP-44.
const CoinType = 4820

// hardened marks a hardened child index (BIP-32).
const hardened = uint32(1) << 31

// MaxIndex is the highest account index a seed wallet derives: account i is
// m/44'/4820'/0'/0/i with i not hardened.
const MaxIndex = hardened - 1

// extKey is a BIP-32 extended private key without the parts that only matter
// for its printed form (depth, parent fingerprint, child number).
type extKey struct {
	key   [32]byte // scalar in 1..n-1, big-endian, leading zeros kept
	chain [32]byte
}

var (
	errSeedLen = errors.New("a BIP-32 seed has 16 to 64 bytes")
	// errNoKey has a probability below 2^-127 (BIP-32) for any one index.
	errNoKey = errors.New("this index gives no valid key, use the next one")
)

// masterKey makes the root of a key tree from a seed of 16 to 64 bytes.
func masterKey(seed []byte) (*extKey, error) {
	if len(seed) < 16 || len(seed) > 64 {
		return nil, errSeedLen
	}
	mac := hmac.New(sha512.New, []byte("Bitcoin seed"))
	mac.Write(seed)
	return splitKey(mac.Sum(nil), nil)
}

// child derives private child i, hardened if i >= 2^31 (BIP-32 CKDpriv).
func (k *extKey) child(i uint32) (*extKey, error) {
	var data [37]byte
	defer clear(data[:])
	var parent secp256k1.ModNScalar
	defer parent.Zero()
	parent.SetBytes(&k.key)
	if i >= hardened {
		copy(data[1:33], k.key[:])
	} else {
		priv := secp256k1.NewPrivateKey(&parent)
		copy(data[:33], priv.PubKey().SerializeCompressed())
		priv.Zero()
	}
	binary.BigEndian.PutUint32(data[33:], i)
	mac := hmac.New(sha512.New, k.chain[:])
	mac.Write(data[:])
	return splitKey(mac.Sum(nil), &parent)
}

// derive walks a path of child indexes.
func (k *extKey) derive(path ...uint32) (*extKey, error) {
	cur := *k
	defer cur.zero()
	for _, i := range path {
		next, err := cur.child(i)
		if err != nil {
			return nil, err
		}
		cur = *next
		next.zero()
	}
	out := cur
	return &out, nil
}

// splitKey reads I = IL || IR of BIP-32: the key is IL, plus the parent's if
// there is one; the chain code is IR. It clears i.
func splitKey(i []byte, parent *secp256k1.ModNScalar) (*extKey, error) {
	defer clear(i)
	var s secp256k1.ModNScalar
	defer s.Zero()
	if overflow := s.SetByteSlice(i[:32]); overflow {
		return nil, errNoKey
	}
	if parent != nil {
		s.Add(parent)
	}
	if s.IsZero() {
		return nil, errNoKey
	}
	out := new(extKey)
	s.PutBytes(&out.key)
	copy(out.chain[:], i[32:])
	return out, nil
}

func (k *extKey) zero() { clear(k.key[:]); clear(k.chain[:]) }

// accountsKey derives m/44'/4820'/0'/0, the parent of all account keys, from
// the entropy of a mnemonic (BIP-39 seed with empty passphrase).
func accountsKey(entropy []byte) (*extKey, error) {
	mnemonic, err := EncodeMnemonic(entropy)
	if err != nil {
		return nil, err
	}
	seed, err := MnemonicSeed(mnemonic, "")
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	master, err := masterKey(seed)
	if err != nil {
		return nil, err
	}
	defer master.zero()
	return master.derive(44|hardened, CoinType|hardened, 0|hardened, 0)
}
