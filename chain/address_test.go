package chain_test

import (
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/bech32"

	"quipu/chain"
	"quipu/chain/bip340"
)

// addressCase is a text that decodes under prefix, or is refused for reason.
type addressCase struct {
	prefix, text, reason string
	account              chain.Account
}

var bip350Line = regexp.MustCompile(`^\* (0x[0-9A-F]{2} \+ )?<tt>([^<]*)</tt>(?:: (?:<tt>([0-9a-f]+)</tt>)?(.*))?$`)

// bip350 is one line of testdata/bip-0350.txt.
type bip350 struct{ section, text, program, reason string }

func bip350Vectors(t testing.TB) []bip350 {
	text, err := os.ReadFile("testdata/bip-0350.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []bip350
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		m := bip350Line.FindStringSubmatch(line)
		if m == nil {
			section = line
			continue
		}
		s := m[2]
		if m[1] != "" {
			b, err := hex.DecodeString(m[1][2:4])
			if err != nil {
				t.Fatal(err)
			}
			s = string(b) + s
		}
		out = append(out, bip350{section, s, m[3], m[4]})
	}
	if len(out) != 44 {
		t.Fatalf("%d lines of vectors, want 44", len(out))
	}
	return out
}

func addressCases(t testing.TB) []addressCase {
	var cases []addressCase
	for _, prefix := range []string{"qp", "tqp", "abcdefghij"} {
		for _, k := range []chain.Account{alice.Account, bob.Account} {
			cases = append(cases, addressCase{prefix: prefix, text: chain.EncodeAddress(prefix, k), account: k})
		}
	}
	for _, v := range bip350Vectors(t) {
		low := strings.ToLower(v.text)
		prefix := "bc"
		if strings.HasPrefix(low, "tb1") {
			prefix = "tb"
		}
		switch {
		case strings.HasPrefix(v.program, "5120"): // version 1 and 32 bytes: an address in this form
			a, err := hex.DecodeString(v.program[4:])
			if err != nil {
				t.Fatal(err)
			}
			c := addressCase{prefix: prefix, text: v.text, account: chain.Account(a)}
			if !bip340.ValidKey((*[32]byte)(&c.account)) {
				c.reason = "no point of the curve"
			}
			cases = append(cases, c)
		case v.program != "":
			cases = append(cases, addressCase{prefix: prefix, text: v.text, reason: "another witness version"})
		case strings.Contains(v.section, "invalid segwit"):
			cases = append(cases, addressCase{prefix: prefix, text: v.text, reason: "BIP-350: " + v.reason})
		}
	}
	own := chain.EncodeAddress("qp", alice.Account)
	refuse := func(reason, prefix, text string) {
		cases = append(cases, addressCase{prefix: prefix, text: text, reason: reason})
	}
	form := func(version byte, data []byte, encode func(string, []byte) (string, error)) string {
		groups, err := bech32.ConvertBits(data, 8, 5, true)
		if err != nil {
			t.Fatal(err)
		}
		s, err := encode("qp", append([]byte{version}, groups...))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	key := alice.Account[:]
	refuse("another network's prefix", "tqp", own)
	refuse("one character changed", "qp", own[:10]+swap(own[10])+own[11:])
	refuse("two characters exchanged", "qp", own[:len(own)-2]+own[len(own)-1:]+own[len(own)-2:len(own)-1])
	refuse("one character missing", "qp", own[:len(own)-1])
	refuse("one character more", "qp", own+"q")
	refuse("white space before it", "qp", " "+own)
	refuse("a line feed behind it", "qp", own+"\n")
	refuse("mixed case", "qp", own[:len(own)-1]+strings.ToUpper(own[len(own)-1:])+"P")
	refuse("mixed case, prefix in upper case", "qp", "QP"+own[2:])
	refuse("empty", "qp", "")
	refuse("a raw key", "qp", alice.Account.String())
	refuse("version symbol 0", "qp", form(0, key, bech32.EncodeM))
	refuse("version symbol 2: made for a newer program", "qp", form(2, key, bech32.EncodeM))
	refuse("version symbol 31", "qp", form(31, key, bech32.EncodeM))
	refuse("checksum of bech32", "qp", form(1, key, bech32.Encode))
	refuse("31 bytes", "qp", form(1, key[:31], bech32.EncodeM))
	refuse("33 bytes", "qp", form(1, append(slices.Clone(key), 0), bech32.EncodeM))
	refuse("no bytes", "qp", form(1, nil, bech32.EncodeM))
	padded, err := bech32.ConvertBits(key, 8, 5, true)
	if err != nil {
		t.Fatal(err)
	}
	padded[len(padded)-1] |= 1
	bad, err := bech32.EncodeM("qp", append([]byte{1}, padded...))
	if err != nil {
		t.Fatal(err)
	}
	refuse("a padding bit set", "qp", bad)
	off := offCurve()
	refuse("no point of the curve", "qp", form(1, off[:], bech32.EncodeM))
	refuse("x above the field's size", "qp", form(1, slices.Repeat([]byte{0xff}, 32), bech32.EncodeM))
	return cases
}

func swap(c byte) string {
	if c == 'q' {
		return "p"
	}
	return "q"
}

// TestAddresses: the published BIP-350 vectors of our form, and our own cases.
func TestAddresses(t *testing.T) {
	for _, c := range addressCases(t) {
		a, err := chain.DecodeAddress(c.prefix, c.text)
		if c.reason != "" {
			if err == nil {
				t.Errorf("%q decodes to %s, want it refused: %s", c.text, a, c.reason)
			}
			continue
		}
		if err != nil || a != c.account {
			t.Errorf("%q: %s, %v, want %s", c.text, a, err, c.account)
		}
		if s := chain.EncodeAddress(c.prefix, c.account); s != strings.ToLower(c.text) {
			t.Errorf("%s is written %q, want %q", c.account, s, strings.ToLower(c.text))
		}
		if a, err := chain.DecodeAddress(c.prefix, strings.ToUpper(c.text)); err != nil || a != c.account {
			t.Errorf("%q in upper case: %s, %v", c.text, a, err)
		}
	}
	if !strings.HasPrefix(chain.EncodeAddress("qp", alice.Account), "qp1p") {
		t.Error("addresses don't begin with qp1p")
	}
}

// TestBech32mLibrary holds what DecodeAddress relies on in its library: BIP-350's lists of valid and invalid bech32m
// strings, whatever they carry.
func TestBech32mLibrary(t *testing.T) {
	n := 0
	for _, v := range bip350Vectors(t) {
		valid := strings.Contains(v.section, "are valid Bech32m")
		if !valid && !strings.Contains(v.section, "are not valid Bech32m") {
			continue
		}
		n++
		_, _, version, err := bech32.DecodeGeneric(v.text)
		if got := err == nil && version == bech32.VersionM; got != valid {
			t.Errorf("%q: valid %v, want %v (%v)", v.text, got, valid, err)
		}
	}
	if n != 21 {
		t.Errorf("%d strings, want 21", n)
	}
}

// TestWrongChecksumIsNotMended: an error says what is wrong with an address, never what would make a mistyped one pass.
func TestWrongChecksumIsNotMended(t *testing.T) {
	good := chain.EncodeAddress("qp", alice.Account)
	for i := 3; i < len(good)-6; i++ {
		wrong := good[:i] + swap(good[i]) + good[i+1:]
		_, err := chain.DecodeAddress("qp", wrong)
		var sum bech32.ErrInvalidChecksum
		if _, _, cause := bech32.Decode(wrong); !errors.As(cause, &sum) {
			t.Fatalf("%s: %v", wrong, cause)
		}
		if err == nil || !strings.Contains(err.Error(), "checksum is wrong") || strings.Contains(err.Error(), sum.Expected) || strings.Contains(err.Error(), sum.ExpectedM) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
