package wallet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// The vectors in testdata/bip-0032.txt are those of bitcoin/bips, bip-0032.mediawiki,
// test vectors 1 to 4 (3 and 4 keep leading zeros). Vector 5 lists serialized keys
// that a parser must refuse; this package parses none.
func TestBIP32Vectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/bip-0032.txt")
	if err != nil {
		t.Fatal(err)
	}
	var seed []byte
	var path []uint32
	var pub xkey
	chains, zeros := 0, 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "Seed (hex): "); ok {
			seed = unhex(t, s)
		} else if s, ok := strings.CutPrefix(line, "* Chain m"); ok {
			path = parsePath(t, s)
		} else if s, ok := strings.CutPrefix(line, "** ext pub: "); ok {
			pub = parseXKey(t, s)
		} else if s, ok := strings.CutPrefix(line, "** ext prv: "); ok {
			chains++
			prv := parseXKey(t, s)
			master, err := masterKey(seed)
			if err != nil {
				t.Fatal(err)
			}
			k, err := master.derive(path...)
			if err != nil {
				t.Fatal(err)
			}
			if k.key != prv.secret || k.chain != prv.chain || k.chain != pub.chain {
				t.Errorf("seed %x path %v: key or chain code differs", seed, path)
			}
			got := secp256k1.PrivKeyFromBytes(k.key[:]).PubKey().SerializeCompressed()
			if !bytes.Equal(got, pub.public[:]) {
				t.Errorf("seed %x path %v: public key %x, want %x", seed, path, got, pub.public)
			}
			if k.key[0] == 0 {
				zeros++
			}
			if len(path) > 0 {
				if last := path[len(path)-1]; prv.child != last || int(prv.depth) != len(path) {
					t.Errorf("vector misread: depth %d child %d", prv.depth, prv.child)
				}
			}
		}
	}
	if chains != 17 || zeros == 0 {
		t.Errorf("%d chains, %d with a leading zero", chains, zeros)
	}
}

func TestMasterKeySeedLength(t *testing.T) {
	for _, n := range []int{0, 15, 65} {
		if _, err := masterKey(make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes is taken", n)
		}
	}
}

// TestSplitKeyRange: BIP-32 refuses IL >= n and a zero key.
func TestSplitKeyRange(t *testing.T) {
	n := unhex(t, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
	i := func(il []byte) []byte { return append(bytes.Clone(il), make([]byte, 32)...) }
	nMinus1 := bytes.Clone(n)
	nMinus1[31]--
	if _, err := splitKey(i(nMinus1), nil); err != nil {
		t.Errorf("n-1: %v", err)
	}
	if _, err := splitKey(i(n), nil); err == nil {
		t.Error("n is taken")
	}
	if _, err := splitKey(i(make([]byte, 32)), nil); err == nil {
		t.Error("0 is taken")
	}
	one := new(secp256k1.ModNScalar).SetInt(1)
	if _, err := splitKey(i(nMinus1), one); err == nil {
		t.Error("n-1 + 1 = 0 is taken")
	}
}

// TestAccountPath pins the documented path m/44'/4820'/0'/0/i: a change here
// would lose every user's accounts.
func TestAccountPath(t *testing.T) {
	entropy := make([]byte, 16) // abandon … about
	parent, err := accountsKey(entropy)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := MnemonicSeed(strings.Repeat("abandon ", 11)+"about", "")
	if err != nil {
		t.Fatal(err)
	}
	master, err := masterKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		a, err := parent.child(i)
		if err != nil {
			t.Fatal(err)
		}
		b, err := master.derive(0x8000002c, 0x800012d4, 0x80000000, 0, i)
		if err != nil || *a != *b {
			t.Errorf("account %d differs from its path", i)
		}
		x := secp256k1.PrivKeyFromBytes(a.key[:]).PubKey().SerializeCompressed()[1:]
		if hex.EncodeToString(x) != accountsOfZeroEntropy[i] {
			t.Errorf("account %d = %x", i, x)
		}
	}
}

// xkey is a parsed xprv or xpub.
type xkey struct {
	depth  byte
	child  uint32
	chain  [32]byte
	secret [32]byte
	public [33]byte
}

// parseXKey reads the base58check form of BIP-32.
func parseXKey(t *testing.T, s string) xkey {
	t.Helper()
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	v := new(big.Int)
	for _, c := range s {
		v.Mul(v, big.NewInt(58)).Add(v, big.NewInt(int64(strings.IndexRune(alphabet, c))))
	}
	raw := v.FillBytes(make([]byte, 82))
	sum := sha256.Sum256(raw[:78])
	sum = sha256.Sum256(sum[:])
	if !bytes.Equal(sum[:4], raw[78:]) {
		t.Fatalf("checksum of %q", s)
	}
	x := xkey{depth: raw[4], child: binary.BigEndian.Uint32(raw[9:])}
	copy(x.chain[:], raw[13:45])
	switch hex.EncodeToString(raw[:4]) {
	case "0488ade4":
		copy(x.secret[:], raw[46:78])
	case "0488b21e":
		copy(x.public[:], raw[45:78])
	default:
		t.Fatalf("version of %q", s)
	}
	return x
}

func parsePath(t *testing.T, s string) []uint32 {
	t.Helper()
	var path []uint32
	for part := range strings.SplitSeq(strings.ReplaceAll(s, "<sub>H</sub>", "H"), "/") {
		if part == "" {
			continue
		}
		num, hard := strings.CutSuffix(part, "H")
		i, err := strconv.ParseUint(num, 10, 31)
		if err != nil {
			t.Fatal(err)
		}
		if hard {
			i |= 1 << 31
		}
		path = append(path, uint32(i))
	}
	return path
}

// accountsOfZeroEntropy are the x-only keys of accounts 0, 1, 2 of sixteen zero bytes,
// computed by an independent script (Python, hashlib and plain point arithmetic).
var accountsOfZeroEntropy = [3]string{
	"abeee0d53a50c4f187f68de650b98856c43f565b398740f9fcf9e8b0b0b3c759",
	"6f5a7ebaf717fdf9476bbf6e2459c3ca275dd35d524c538a287dc2ca9379a29b",
	"27225490af7d4e28264aac7ed84971bd8d312745a65163c62cf06eb56c7ff708",
}
