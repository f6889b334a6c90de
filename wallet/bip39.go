package wallet

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// english is the BIP-39 English word list, one word a line, 2,048 lines,
// SHA-256 2f5eed53…dbda (held by a test). Its words are sorted and the first
// four letters tell each from all others.
//
//go:embed english.txt
var english string

var (
	words     = strings.Fields(english)
	wordIndex = func() map[string]int {
		m := make(map[string]int, len(words))
		for i, w := range words {
			m[w] = i
		}
		return m
	}()
)

const (
	minEntropy  = 16 // bytes, BIP-39: 128 bits, 12 words
	maxEntropy  = 32 // bytes, BIP-39: 256 bits, 24 words
	maxWordLen  = 8  // longest word of the English list
	maxMnemonic = 1024
	maxSuggest  = 5
)

// MnemonicError says why a list of words is refused. It names a position and
// never a word: the words are the secret.
type MnemonicError struct {
	// Word is the position of the word that is not in the list, counted from 1;
	// 0 when the fault is not in a single word.
	Word   int
	Reason string
}

func (e *MnemonicError) Error() string {
	if e.Word > 0 {
		return fmt.Sprintf("word %d %s", e.Word, e.Reason)
	}
	return e.Reason
}

// NewEntropy returns fresh random bytes for a mnemonic. bits is 128, 160, 192,
// 224 or 256 (12, 15, 18, 21 or 24 words).
func NewEntropy(bits int) ([]byte, error) {
	if err := checkEntropyLen(bits / 8); err != nil || bits%8 != 0 {
		return nil, errEntropyLen
	}
	b := make([]byte, bits/8)
	rand.Read(b) // never fails: crypto/rand ends the process rather than return weak bytes
	return b, nil
}

var errEntropyLen = errors.New("entropy must have 128, 160, 192, 224 or 256 bits")

func checkEntropyLen(n int) error {
	if n < minEntropy || n > maxEntropy || n%4 != 0 {
		return errEntropyLen
	}
	return nil
}

// EncodeMnemonic writes entropy of 16, 20, 24, 28 or 32 bytes as 12 to 24
// English words, separated by single spaces (BIP-39: entropy, then the first
// len/4 bits of its SHA-256, cut in groups of 11 bits).
func EncodeMnemonic(entropy []byte) (string, error) {
	if err := checkEntropyLen(len(entropy)); err != nil {
		return "", err
	}
	sum := sha256.Sum256(entropy)
	bits := append(slices.Clone(entropy), sum[0])
	defer clear(bits)
	n := len(entropy) * 3 / 4
	out := make([]string, n)
	for i := range out {
		v := 0
		for j := i * 11; j < i*11+11; j++ {
			v = v<<1 | int(bits[j/8]>>(7-j%8)&1)
		}
		out[i] = words[v]
	}
	return strings.Join(out, " "), nil
}

// DecodeMnemonic reads 12, 15, 18, 21 or 24 English words and checks their
// checksum. Case and the kind and number of blanks between words don't matter.
// Every error is a *MnemonicError.
func DecodeMnemonic(mnemonic string) ([]byte, error) {
	if len(mnemonic) > maxMnemonic {
		return nil, &MnemonicError{Reason: "this text is too long to be a list of words"}
	}
	list := strings.Fields(strings.ToLower(mnemonic))
	if len(list) < 12 || len(list) > 24 || len(list)%3 != 0 {
		return nil, &MnemonicError{Reason: fmt.Sprintf("%d words given; 12, 15, 18, 21 or 24 are expected", len(list))}
	}
	bits := make([]byte, (len(list)*11+7)/8)
	defer clear(bits)
	for i, w := range list {
		v, ok := wordIndex[w]
		if !ok {
			return nil, &MnemonicError{Word: i + 1, Reason: "is not in the English word list"}
		}
		for j := range 11 {
			k := i*11 + j
			bits[k/8] |= byte(v>>(10-j)&1) << (7 - k%8)
		}
	}
	n := len(list) / 3 * 4
	entropy := slices.Clone(bits[:n])
	sum := sha256.Sum256(entropy)
	mask := byte(0xff << (8 - n/4)) // n/4 checksum bits, at most 8
	if (sum[0]^bits[n])&mask != 0 {
		clear(entropy)
		return nil, &MnemonicError{Reason: "every word is in the list, but the checksum is wrong: a word is wrong, or two are swapped"}
	}
	return entropy, nil
}

// MnemonicSeed returns the 64-byte BIP-39 seed of a mnemonic: PBKDF2 with
// HMAC-SHA-512, 2,048 rounds, salt "mnemonic" + passphrase. The mnemonic is
// checked first and brought to its canonical spelling. quipu wallets use the
// empty passphrase; others must be ASCII, so that no Unicode normalization is
// involved.
func MnemonicSeed(mnemonic, passphrase string) ([]byte, error) {
	entropy, err := DecodeMnemonic(mnemonic)
	if err != nil {
		return nil, err
	}
	defer clear(entropy)
	for i := range len(passphrase) {
		if passphrase[i] >= 0x80 {
			return nil, errors.New("a BIP-39 passphrase must be ASCII here")
		}
	}
	canonical, err := EncodeMnemonic(entropy)
	if err != nil {
		return nil, err
	}
	return pbkdf2.Key(sha512.New, canonical, []byte("mnemonic"+passphrase), 2048, 64)
}

// Suggest returns up to five words of the list that a mistyped word may stand
// for, nearest first; one word if it is in the list; nil if none is near.
// The answer is as secret as the question: show it on the terminal where the
// word was typed, and nowhere else.
func Suggest(word string) []string {
	word = strings.ToLower(strings.TrimSpace(word))
	if _, ok := wordIndex[word]; ok {
		return []string{word}
	}
	if len(word) < 2 || len(word) > 2*maxWordLen {
		return nil
	}
	type near struct {
		word string
		dist int
	}
	var all []near
	for _, w := range words {
		d := editDistance(word, w)
		// Words differ in their first four letters, so those given right are a
		// strong hint, whatever follows.
		if len(word) >= 4 && strings.HasPrefix(w, word[:4]) {
			d = 0
		} else if strings.HasPrefix(w, word) {
			d = 1
		}
		if d <= 2 && d < len(word)-1 {
			all = append(all, near{w, d})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return a.dist - b.dist })
	var out []string
	for _, n := range all[:min(len(all), maxSuggest)] {
		out = append(out, n.word)
	}
	return out
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours between two short words (optimal string alignment).
func editDistance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
