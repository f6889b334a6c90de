package wallet

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Kind says what a wallet holds.
type Kind uint8

const (
	KindSeed Kind = 1 // BIP-39 entropy: words restore it, any number of accounts
	KindKey  Kind = 2 // one secret key: one account
)

func (k Kind) String() string {
	switch k {
	case KindSeed:
		return "seed"
	case KindKey:
		return "key"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

const (
	secretVersion = 1
	secretHead    = 7
	maxSecret     = secretHead + 32
)

// secret is the sealed payload: version u8 = 1 | kind u8 | next u32 | len u8 | bytes,
// little-endian. bytes is 16 to 32 bytes of entropy (seed) or 32 bytes of key.
// next is the number of accounts handed out so far, at least 1.
type secret struct {
	kind  Kind
	next  uint32
	bytes []byte
}

func (s *secret) encode() []byte {
	b := make([]byte, 0, maxSecret)
	b = append(b, secretVersion, byte(s.kind))
	b = binary.LittleEndian.AppendUint32(b, s.next)
	b = append(b, byte(len(s.bytes)))
	return append(b, s.bytes...)
}

// decodeSecret reads what the seal authenticated, so a fault here is an older
// or newer program's and no accident.
func decodeSecret(b []byte) (*secret, error) {
	if len(b) > 0 && b[0] > secretVersion {
		return nil, &Error{Kind: ErrNewer, Detail: fmt.Sprintf("secret version %d, this program reads %d", b[0], secretVersion)}
	}
	if len(b) < secretHead || b[0] != secretVersion || len(b) != secretHead+int(b[6]) {
		return nil, damaged("the sealed part has the wrong form")
	}
	s := &secret{kind: Kind(b[1]), next: binary.LittleEndian.Uint32(b[2:]), bytes: slices.Clone(b[secretHead:])}
	ok := s.next >= 1
	switch s.kind {
	case KindSeed:
		ok = ok && checkEntropyLen(len(s.bytes)) == nil && s.next <= MaxIndex
	case KindKey:
		ok = ok && len(s.bytes) == 32 && s.next == 1
	default:
		return nil, &Error{Kind: ErrNewer, Detail: "it holds a " + s.kind.String()}
	}
	if !ok {
		s.zero()
		return nil, damaged("the sealed part has the wrong form")
	}
	return s, nil
}

func (s *secret) zero() { clear(s.bytes) }

// Format keeps the bytes out of every fmt verb.
func (s secret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "wallet secret (%v)", s.kind) }
