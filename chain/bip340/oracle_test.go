package bip340

import (
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
)

// TestAgainstBtcec holds Sign and Verify against btcec's schnorr package, for tests only. Two of its limits are left
// out by name: it takes messages of 32 bytes alone, and v2.5.0 reduces s modulo n instead of refusing s ≥ n.
func TestAgainstBtcec(t *testing.T) {
	n := scalarBytes(hexN)
	r := newRand(70)
	base := signed(t, 71, 12, 4)
	seen := map[bool]int{}
	try := func(it Item) {
		t.Helper()
		got := Verify(it.Pub, it.Msg, it.Sig)
		seen[got]++
		if string(it.Sig[32:]) >= n {
			if got {
				t.Errorf("s ≥ n accepted: %x", *it.Sig)
			}
			return // btcec's answer is about another signature
		}
		if want := btcecVerify(it); got != want {
			t.Errorf("Verify says %v, btcec %v: pub %x, msg %x, sig %x", got, want, *it.Pub, it.Msg, *it.Sig)
		}
	}
	for _, it := range base {
		try(it)
		for range 20 {
			c := clone(it)
			switch bit := byte(1) << r.IntN(8); r.IntN(4) {
			case 0:
				c.Pub[r.IntN(32)] ^= bit
			case 1:
				c.Sig[r.IntN(32)] ^= bit
			case 2:
				c.Sig[32+r.IntN(32)] ^= bit
			case 3:
				c.Msg[r.IntN(32)] ^= bit
			}
			try(c)
		}
		high := clone(it)
		copy(high.Sig[32:], n)
		try(high)
	}
	for _, v := range vectors(t) {
		if len(v.Msg) == 32 {
			try(v.Item)
		}
	}
	if seen[true] < len(base) || seen[false] < len(base) {
		t.Errorf("%d accepted and %d refused: too few to say anything", seen[true], seen[false])
	}
}

func btcecVerify(it Item) bool {
	pub, err := schnorr.ParsePubKey(it.Pub[:])
	if err != nil {
		return false
	}
	sig, err := schnorr.ParseSignature(it.Sig[:])
	return err == nil && sig.Verify(it.Msg, pub)
}

func scalarBytes(s string) string { b := bytes32(s); return string(b[:]) }
