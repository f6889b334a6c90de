package wallet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// The vectors in testdata/bip-0039.json are python-mnemonic's English ones
// (trezor/python-mnemonic, vectors.json), passphrase "TREZOR".
func TestBIP39Vectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/bip-0039.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ English [][4]string }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.English) != 24 {
		t.Fatalf("%d vectors", len(file.English))
	}
	for _, v := range file.English {
		entropy := unhex(t, v[0])
		m, err := EncodeMnemonic(entropy)
		if err != nil || m != v[1] {
			t.Errorf("EncodeMnemonic(%s) = %q, %v", v[0], m, err)
		}
		back, err := DecodeMnemonic(v[1])
		if err != nil || !bytes.Equal(back, entropy) {
			t.Errorf("DecodeMnemonic(%q) = %x, %v", v[1], back, err)
		}
		seed, err := MnemonicSeed(v[1], "TREZOR")
		if err != nil || hex.EncodeToString(seed) != v[2] {
			t.Errorf("MnemonicSeed(%q) = %x, %v", v[1], seed, err)
		}
		master, err := masterKey(seed)
		if err != nil {
			t.Fatal(err)
		}
		if x := parseXKey(t, v[3]); x.secret != master.key || x.chain != master.chain {
			t.Errorf("master key of %q differs from its xprv", v[1])
		}
	}
}

func TestWordList(t *testing.T) {
	// SHA-256 of english.txt in bitcoin/bips.
	const want = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
	if sum := sha256.Sum256([]byte(english)); hex.EncodeToString(sum[:]) != want {
		t.Errorf("word list has hash %x", sum)
	}
	if len(words) != 2048 || !slices.IsSorted(words) {
		t.Errorf("%d words, sorted %v", len(words), slices.IsSorted(words))
	}
}

func TestDecodeMnemonicRefuses(t *testing.T) {
	good := "legal winner thank year wave sausage worth useful legal winner thank yellow"
	if _, err := DecodeMnemonic(" Legal\tWINNER  thank year wave sausage worth useful\nlegal winner thank yellow "); err != nil {
		t.Errorf("case and blanks: %v", err)
	}
	cases := []struct {
		name, in string
		word     int
	}{
		{"empty", "", 0},
		{"eleven words", strings.TrimSuffix(good, " yellow"), 0},
		{"thirteen words", good + " zoo", 0},
		{"twenty-seven words", strings.Repeat("zoo ", 27), 0},
		{"unknown word", strings.Replace(good, "wave", "wavex", 1), 5},
		{"abbreviated word", strings.Replace(good, "winner", "winn", 1), 2},
		{"other word", strings.Replace(good, "wave", "zoo", 1), 0},
		{"swapped words", strings.Replace(good, "legal winner", "winner legal", 1), 0},
		{"comma", strings.Replace(good, "legal winner", "legal, winner", 1), 1},
		{"not utf-8", "\xff" + good, 1},
		{"too long", strings.Repeat("a", maxMnemonic+1), 0},
	}
	for _, c := range cases {
		_, err := DecodeMnemonic(c.in)
		var m *MnemonicError
		if !errors.As(err, &m) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if m.Word != c.word {
			t.Errorf("%s: blames word %d, want %d", c.name, m.Word, c.word)
		}
		for _, w := range strings.Fields(good) {
			// "thank", "year" and so on must not be repeated in an error.
			if w != "word" && strings.Contains(err.Error(), w) {
				t.Errorf("%s: error repeats a word: %v", c.name, err)
			}
		}
	}
	for _, n := range []int{0, 12, 15, 17, 33, 36, 64} {
		if _, err := EncodeMnemonic(make([]byte, n)); err == nil {
			t.Errorf("EncodeMnemonic takes %d bytes", n)
		}
		if _, err := NewEntropy(n * 8); err == nil {
			t.Errorf("NewEntropy takes %d bits", n*8)
		}
	}
	if _, err := NewEntropy(129); err == nil {
		t.Error("NewEntropy takes 129 bits")
	}
	if _, err := MnemonicSeed(good, "Zoë"); err == nil {
		t.Error("a passphrase outside ASCII is taken")
	}
}

func TestSuggest(t *testing.T) {
	cases := []struct {
		typed, first string
	}{
		{"abandon", "abandon"}, {"abandn", "abandon"}, {"abnadon", "abandon"}, {"ABANDOM", "abandon"},
		{"winnr", "winner"}, {"sausge", "sausage"}, {"yelow", "yellow"}, {"zooo", "zoo"}, {"teh", "ten"},
	}
	for _, c := range cases {
		got := Suggest(c.typed)
		if !slices.Contains(got, c.first) || len(got) > maxSuggest {
			t.Errorf("Suggest(%q) = %q, want %q among it", c.typed, got, c.first)
		}
	}
	for _, none := range []string{"", "q", "xyzzyqqq", strings.Repeat("a", 1000), "\xff\xfe"} {
		if got := Suggest(none); len(got) != 0 {
			t.Errorf("Suggest(%q) = %q", none, got)
		}
	}
}

// FuzzDecodeMnemonic: what is taken has one spelling, and comes back.
func FuzzDecodeMnemonic(f *testing.F) {
	f.Add("legal winner thank year wave sausage worth useful legal winner thank yellow")
	f.Add(strings.Repeat("zoo ", 23) + "vote")
	f.Add(strings.Repeat("abandon ", 11) + "about")
	f.Fuzz(func(t *testing.T, s string) {
		entropy, err := DecodeMnemonic(s)
		Suggest(s)
		if err != nil {
			return
		}
		m, err := EncodeMnemonic(entropy)
		if err != nil {
			t.Fatal(err)
		}
		if m != strings.Join(strings.Fields(strings.ToLower(s)), " ") {
			t.Fatalf("%q became %q", s, m)
		}
	})
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
