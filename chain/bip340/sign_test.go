package bip340

import (
	"errors"
	"testing"
)

func TestSignVerify(t *testing.T) {
	r := newRand(20)
	for _, size := range []int{0, 1, 31, 32, 33, 159, 383, 384, 385, 10_399, 100_000} {
		secret, aux := random32(r), random32(r)
		msg := make([]byte, size)
		for i := range msg {
			msg[i] = byte(r.Uint32())
		}
		pub, err := PublicKey(&secret)
		if err != nil {
			t.Fatal(err)
		}
		keep := secret
		sig, err := Sign(&secret, msg, &aux)
		if err != nil {
			t.Fatal(err)
		}
		if secret != keep {
			t.Error("Sign changed the caller's key")
		}
		if !Verify(&pub, msg, &sig) || !refVerify(pub[:], msg, sig[:]) {
			t.Errorf("size %d: own signature refused", size)
		}
		again, err := Sign(&secret, msg, &aux)
		if err != nil || again != sig {
			t.Errorf("size %d: two signatures from the same inputs", size)
		}
		aux[5] ^= 1
		if other, _ := Sign(&secret, msg, &aux); other == sig || !Verify(&pub, msg, &other) {
			t.Errorf("size %d: aux has no part in the nonce", size)
		}
	}
}

func TestSecretRange(t *testing.T) {
	n := bytes32(hexN)
	for _, c := range []struct {
		name   string
		secret [32]byte
		ok     bool
	}{
		{"0", [32]byte{}, false},
		{"1", plus([32]byte{}, 1), true},
		{"n - 1", plus(n, -1), true},
		{"n", n, false},
		{"n + 1", plus(n, 1), false},
		{"2^256 - 1", plus([32]byte{}, -1), false},
	} {
		pub, err := PublicKey(&c.secret)
		sig, err2 := Sign(&c.secret, []byte("m"), new([32]byte))
		if c.ok {
			if err != nil || err2 != nil || !Verify(&pub, []byte("m"), &sig) || !ValidKey(&pub) {
				t.Errorf("secret %s: %v, %v", c.name, err, err2)
			}
			continue
		}
		if !errors.Is(err, ErrSecret) || !errors.Is(err2, ErrSecret) || pub != [32]byte{} || sig != [64]byte{} {
			t.Errorf("secret %s: %v, %v, %x, %x", c.name, err, err2, pub, sig)
		}
	}
	// 1 and n-1 have the points G and -G: one x, and so one public key.
	one, last := plus([32]byte{}, 1), plus(n, -1)
	a, _ := PublicKey(&one)
	b, _ := PublicKey(&last)
	if a != b {
		t.Errorf("%x and %x, want the same", a, b)
	}
}
