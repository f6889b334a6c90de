package chain

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcutil/bech32"

	"quipu/chain/bip340"
)

// addressVersion is the first symbol of the data part, as in BIP-350 segwit version 1 addresses.
const addressVersion = 1

// EncodeAddress writes an account as bech32m (BIP-350): prefix, version symbol 1, the 32 bytes. Always lower case.
func EncodeAddress(prefix string, a Account) string {
	data, err := bech32.ConvertBits(a[:], 8, 5, true)
	if err != nil {
		panic(err) // 8 to 5 bits with padding can't fail
	}
	s, err := bech32.EncodeM(prefix, append([]byte{addressVersion}, data...))
	if err != nil {
		panic(err) // prefixes are 1–10 lower-case letters
	}
	return s
}

// DecodeAddress reads an address of the network with this prefix, all lower or all upper case. An x that is on no
// point of the curve is refused: whatever is paid to it is burned.
func DecodeAddress(prefix, s string) (Account, error) {
	hrp, data, version, err := bech32.DecodeGeneric(s)
	if sum := (bech32.ErrInvalidChecksum{}); errors.As(err, &sum) { // its text offers the right one: no mistyped address may be mended so
		return Account{}, fmt.Errorf("address %.100q: its checksum is wrong, so at least one character is; copy it anew from its owner", s)
	}
	if err != nil {
		return Account{}, fmt.Errorf("address %.100q: %w", s, err)
	}
	if hrp != prefix {
		return Account{}, fmt.Errorf("address %q is for another network: its prefix is %q, this network's is %q", s, hrp, prefix)
	}
	if version != bech32.VersionM {
		return Account{}, fmt.Errorf("address %q: checksum is bech32, want bech32m", s)
	}
	if len(data) == 0 || data[0] != addressVersion {
		return Account{}, fmt.Errorf("address %q is made for a newer program", s)
	}
	key, err := bech32.ConvertBits(data[1:], 5, 8, false)
	if err != nil {
		return Account{}, fmt.Errorf("address %q: %w", s, err)
	}
	if len(key) != 32 {
		return Account{}, fmt.Errorf("address %q holds %d bytes, want 32", s, len(key))
	}
	a := Account(key)
	if !bip340.ValidKey((*[32]byte)(&a)) {
		return Account{}, fmt.Errorf("address %q is no point of the curve: coins sent there are lost", s)
	}
	return a, nil
}
