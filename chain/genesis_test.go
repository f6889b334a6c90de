package chain_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
)

// genesisJSON is a file in which every value differs from every other; alice and bob are funded.
func genesisJSON() string {
	return fmt.Sprintf(`{
  "name": "a net",
  "prefix": "tqp",
  "time": 1700000000000,
  "spacing": 1000,
  "half_life": 144000,
  "bits": "1f00ffff",
  "limit_bits": "207fffff",
  "body_limit": 1048576,
  "subsidy": "5000000000",
  "halving": 210000,
  "tail": "17",
  "min_fee_rate": 3,
  "account_price": "100000",
  "balances": {
    %q: "1000",
    %q: "18"
  }
}
`, chain.EncodeAddress("tqp", alice.Account), chain.EncodeAddress("tqp", bob.Account))
}

type genesisCase struct {
	name, rule string
	raw        []byte
}

// genesisJSONCases are texts with one thing changed; rule "none" where that is allowed.
func genesisJSONCases(t testing.TB) []genesisCase {
	base := genesisJSON()
	var cases []genesisCase
	change := func(name, rule, old, new string) {
		if strings.Count(base, old) != 1 {
			t.Fatalf("%s: %q stands %d times in the text", name, old, strings.Count(base, old))
		}
		cases = append(cases, genesisCase{name, rule, []byte(strings.Replace(base, old, new, 1))})
	}
	text := func(name, rule, s string) { cases = append(cases, genesisCase{name, rule, []byte(s)}) }

	text("as it is", "none", base)
	text("white space around", "none", " \t\r\n"+base+" \t\r\n")
	text("no white space", "none", strings.NewReplacer("\n", "", "  ", "", ": ", ":").Replace(base))
	change("a key with an escape", "none", `"name"`, `"n\u0061me"`)
	change("an address in upper case", "none", chain.EncodeAddress("tqp", bob.Account), strings.ToUpper(chain.EncodeAddress("tqp", bob.Account)))
	bounds := func(key, old string, values map[string]string) {
		for _, v := range slices.Sorted(mapKeys(values)) {
			change(key+" "+v, values[v], fmt.Sprintf("%q: %s", key, old), fmt.Sprintf("%q: %s", key, v))
		}
	}
	bounds("name", `"a net"`, map[string]string{
		`" ~"`: "none", `""`: "G3", `"` + strings.Repeat("x", 32) + `"`: "none", `"` + strings.Repeat("x", 33) + `"`: "G3",
		`"a\u001fb"`: "G3", `"a\u007f"`: "G3", `"é"`: "G3", `"\ud800"`: "G3", `5`: "G1", `null`: "G1", "\"a\nb\"": "G1",
	})
	bounds("time", "1700000000000", map[string]string{
		"0": "none", "9007199254740991": "none", "9007199254740992": "G3", "18446744073709551615": "G3",
		"18446744073709551616": "G1", "-1": "G1", "-0": "G1", "1.0": "G1", "1e3": "G1", "01": "G1", "+1": "G1", `"1"`: "G1",
		"null": "G1", "true": "G1", "[1]": "G1", "NaN": "G1", "0x10": "G1",
	})
	bounds("half_life", "144000", map[string]string{
		"32000": "none", "31999": "G3", "1024000": "none", "1024001": "G3", "18446744073709551615": "G3", "1.5e5": "G1",
	})
	bounds("body_limit", "1048576", map[string]string{
		"10399": "none", "10398": "G3", "4194304": "none", "4194305": "G3", "4294967296": "G1",
	})
	bounds("halving", "210000", map[string]string{"1": "none", "0": "G3", "4294967295": "G4", "4294967296": "G1"})
	bounds("min_fee_rate", "3", map[string]string{"0": "none", "4294967295": "none", "4294967296": "G1"})
	bounds("limit_bits", `"207fffff"`, map[string]string{
		`"1f00ffff"`: "none", `"1f00fffe"`: "G3", `"2100ffff"`: "none", `"21010000"`: "G3", `"20ffffff"`: "G3", `"00000000"`: "G3",
		`"207FFFFF"`: "G1", `"207ffff"`: "G1", `"0207fffff"`: "G1", `"0x207fff"`: "G1", `545259519`: "G1", `20700000`: "G1",
	})
	bounds("bits", `"1f00ffff"`, map[string]string{
		`"01010000"`: "none", `"01000000"`: "G3", `"1f000001"`: "G3", `"1f80ffff"`: "G3", `"207fffff"`: "none", `"2100ffff"`: "G3",
	})
	bounds("subsidy", `"5000000000"`, map[string]string{
		`"0"`: "none", `""`: "G1", `"00"`: "G1", `"05"`: "G1", `"-5"`: "G1", `"5.0"`: "G1", `"5e9"`: "G1", `" 5"`: "G1", `"٣"`: "G1",
		`5`: "G1", `"18446744073709551615"`: "G4", `"18446744073709551616"`: "G1",
	})
	bounds("tail", `"17"`, map[string]string{`"0"`: "none", `"2000000000"`: "none", `"9000000000"`: "G4", `17`: "G1"})
	bounds("account_price", `"100000"`, map[string]string{`"0"`: "none", `"18446744073709551615"`: "none", `100000`: "G1"})
	change("spacing 100", "G3", `"spacing": 1000,`, `"spacing": 100,`) // half_life is 1,440 of these
	change("spacing 100 with its half_life", "none", "\"spacing\": 1000,\n  \"half_life\": 144000", "\"spacing\": 100,\n  \"half_life\": 3200")
	change("spacing 99", "G3", "\"spacing\": 1000,\n  \"half_life\": 144000", "\"spacing\": 99,\n  \"half_life\": 4950")
	change("spacing 2^32", "G1", `"spacing": 1000`, `"spacing": 4294967296`)
	change("spacing 2^32-1", "none", "\"spacing\": 1000,\n  \"half_life\": 144000", "\"spacing\": 4294967295,\n  \"half_life\": 137438953440")

	at, bt := chain.EncodeAddress("tqp", alice.Account), chain.EncodeAddress("tqp", bob.Account)
	one := fmt.Sprintf("%q: \"1000\",\n    %q: \"18\"", at, bt)
	change("no balances", "none", one, "")
	change("balances in another order", "none", one, fmt.Sprintf("%q: \"18\", %q: \"1000\"", bt, at))
	change("a balance of 0", "G4", `"18"`, `"0"`)
	change("a balance that isn't a string", "G1", `"18"`, `18`)
	change("balances above 2^63-1", "G4", `"18"`, `"9223372036854775000"`)
	change("balances that wrap", "G4", one, fmt.Sprintf(`%q: "18446744073709551615", %q: "2"`, at, bt))
	change("an account twice", "G1", bt, at)
	change("an account twice, once in upper case", "G1", bt, strings.ToUpper(at))
	change("an address of another network", "G1", bt, chain.EncodeAddress("qp", bob.Account))
	change("an address with a typo", "G1", bt, bt[:len(bt)-1]+"q")
	change("an account off the curve", "G1", bt, chain.EncodeAddress("tqp", offCurve()))
	change("a raw key instead of an address", "G1", bt, bob.Account.String())
	change("balances null", "G1", "{\n    "+one+"\n  }", "null")
	change("balances a list", "G1", "{\n    "+one+"\n  }", "[]")

	change("prefix of the balances changed", "G1", `"tqp"`, `"qp"`)
	empty := strings.Replace(base, one, "", 1)
	for prefix, rule := range map[string]string{"": "G3", "abcdefghij": "none", "abcdefghijk": "G3", "tQp": "G3", "q1": "G3", "q p": "G3"} {
		text("prefix "+prefix, rule, strings.Replace(empty, `"tqp"`, `"`+prefix+`"`, 1))
	}

	change("a key in upper case", "G1", `"tail"`, `"Tail"`)
	change("a key missing", "G1", "  \"tail\": \"17\",\n", "")
	change("a key twice, same value", "G1", `"tail": "17",`, `"tail": "17", "tail": "17",`)
	change("an unknown key", "G1", `"tail": "17",`, `"tail": "17", "comment": "",`)
	change("a comma too many", "G1", "18\"\n  }\n}", "18\"\n  },\n}")
	change("a comma too few", "G1", `"tail": "17",`, `"tail": "17"`)
	change("a comment", "G1", `"tail": "17",`, `"tail": "17", // knots`)
	text("text behind", "G1", base+"x")
	text("a second object", "G1", base+"{}")
	text("a no-break space behind", "G1", base+"\u00a0")
	text("a vertical tab behind", "G1", base+"\v")
	text("a byte order mark", "G1", "\ufeff"+base)
	text("cut short", "G1", base[:len(base)-3])
	text("empty", "G1", "")
	text("a list", "G1", "[]")
	text("null", "G1", "null")
	slices.SortStableFunc(cases, func(a, b genesisCase) int { return strings.Compare(a.name, b.name) })
	return cases
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// genesisCanonicalCases are canonical bytes with one thing changed. Offsets are those of genesisJSON's values.
func genesisCanonicalCases() []genesisCase {
	g, err := chain.ParseGenesis([]byte(genesisJSON()))
	if err != nil {
		panic(err)
	}
	base := g.Append(nil)
	const (
		name, prefix = 1, 7 // lengths
		spacing      = 11 + 8
		halfLife     = spacing + 4
		bits         = halfLife + 8
		limit        = bits + 4
		bodyLimit    = limit + 4
		subsidy      = bodyLimit + 4
		halving      = subsidy + 8
		tail         = halving + 4
		count        = tail + 8 + 4 + 8
		first        = count + 4
		second       = first + 40
	)
	var cases []genesisCase
	add := func(name, rule string, raw []byte) { cases = append(cases, genesisCase{name, rule, raw}) }
	put := func(name, rule string, at int, v ...byte) {
		b := slices.Clone(base)
		copy(b[at:], v)
		add(name, rule, b)
	}
	add("as it is", "none", base)
	put("version 0", "G2", 0, 0)
	put("version 2", "G2", 0, 2)
	put("name_len longer than the rest", "G2", name, 255)
	put("a byte of the name below 0x20", "G3", name+1, 0x1f)
	put("a byte of the name above 0x7e", "G3", name+1, 0x80)
	put("prefix in upper case", "G3", prefix+1, 'T')
	put("time 2^53", "G3", 11, 0, 0, 0, 0, 0, 0, 0x20, 0)
	put("half_life 32 spacings - 1", "G3", halfLife, le64(31_999)...)
	put("half_life 1,024 spacings + 1", "G3", halfLife, le64(1_024_001)...)
	put("half_life 2^64-1", "G3", halfLife, le64(1<<64-1)...)
	put("half_life 2^63+144000", "G3", halfLife, le64(1<<63+144_000)...)
	add("spacing 99", "G3", slices.Concat(base[:spacing], []byte{99, 0, 0, 0}, le64(4950), base[bits:]))
	add("spacing 100", "none", slices.Concat(base[:spacing], []byte{100, 0, 0, 0}, le64(3200), base[bits:]))
	put("bits with the sign set", "G3", bits, 0xff, 0xff, 0x80, 0x1f)
	put("bits easier than the limit", "G3", bits, 0xff, 0xff, 0x00, 0x21)
	put("limit_bits not canonical", "G3", limit, 0xff, 0xff, 0x00, 0x22)
	put("body_limit 10,398", "G3", bodyLimit, le64(10_398)[:4]...)
	put("body_limit 2^22+1", "G3", bodyLimit, le64(1<<22 + 1)[:4]...)
	put("halving 0", "G3", halving, 0, 0, 0, 0)
	put("subsidy 2^64-1", "G4", subsidy, le64(1<<64-1)...)
	put("tail 2^64-1", "G4", tail, le64(1<<64-1)...)
	put("a balance of 0", "G4", first+32, le64(0)...)
	put("balances that wrap", "G4", first+32, le64(1<<64-1)...)
	put("count one too high", "G2", count, 3)
	put("count one too low", "G2", count, 1)
	put("count 2^32-1", "G2", count, 0xff, 0xff, 0xff, 0xff)
	add("accounts descending", "G2", slices.Concat(base[:first], base[second:second+40], base[first:second]))
	add("an account twice", "G2", slices.Concat(base[:first], base[first:second], base[first:second]))
	high := slices.Clone(base)
	copy(high[second:], slices.Repeat([]byte{0xff}, 32)) // x ≥ p, and still the larger account
	add("an account off the curve", "none", high)
	add("one byte behind", "G2", append(slices.Clone(base), 0))
	for _, n := range []int{0, 1, 3, 9, 15, first, second + 39} {
		add(fmt.Sprintf("cut to %d bytes", n), "G2", base[:n])
	}
	return cases
}

// TestGenesisForms: both forms give one genesis, and block 0 and the network id are what docs/spec.md §6 says.
func TestGenesisForms(t *testing.T) {
	g, err := chain.ParseGenesis([]byte(genesisJSON()))
	if err != nil {
		t.Fatal(err)
	}
	canonical := g.Append(nil)
	again, err := chain.DecodeGenesis(canonical)
	if err != nil {
		t.Fatal(err)
	}
	third, err := chain.ParseGenesis(g.JSON())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*chain.Genesis{again, third} {
		if o.NetworkID() != g.NetworkID() || !bytes.Equal(o.Append(nil), canonical) {
			t.Error("the two forms give different networks")
		}
	}
	if !slices.IsSortedFunc(g.Balances, func(a, b chain.GenesisBalance) int { return bytes.Compare(a.Account[:], b.Account[:]) }) {
		t.Error("balances are not ascending")
	}
	if want := bip340.TaggedHash("quipu/genesis", canonical); g.NetworkID() != want {
		t.Errorf("network id %s, want %x", g.NetworkID(), want)
	}
	h := g.State().Header
	empty := chain.Hash(sha256.Sum256(nil))
	root := chain.Hash(statetree.RootOf([]statetree.Leaf{{Account: alice.Account, Balance: 1000}, {Account: bob.Account, Balance: 18}}))
	want := chain.Header{
		Version: 1, Parent: chain.BlockID(g.NetworkID()), HistoryRoot: empty, TxRoot: empty, StateRoot: root,
		Time: 1700000000000, Bits: 0x1f00ffff,
	}
	if h != want {
		t.Errorf("block 0 is %+v, want %+v", h, want)
	}
	if s := g.State(); !s.Work.IsZero() || len(s.Peaks) != 1 {
		t.Errorf("block 0 counts work %s and %d peaks", s.Work.Dec(), len(s.Peaks))
	}
	if g.Supply() != 1018 {
		t.Errorf("supply %d", g.Supply())
	}
}

// TestOpenGenesis holds the constants of network quipu-open.
func TestOpenGenesis(t *testing.T) {
	text, err := os.ReadFile("../genesis.json")
	if err != nil {
		t.Fatal(err)
	}
	g, err := chain.ParseGenesis(text)
	if err != nil {
		t.Fatal(err)
	}
	if g.Name != "quipu-open" || g.Prefix != "qp" || len(g.Balances) != 0 || g.Spacing != 10_000 ||
		g.HalfLife != 144*g.Spacing || g.BodyLimit != 2<<20 || g.MinFeeRate != 1 || g.AccountPrice != 100_000 {
		t.Errorf("%+v", g)
	}
}

// TestSubsidyAndSupply: subsidies by height, and MAX_SUPPLY against a sum over epochs in big integers.
func TestSubsidyAndSupply(t *testing.T) {
	for _, c := range subsidyCases {
		t.Run(c.name, func(t *testing.T) {
			for h, want := range c.at {
				g := chain.Genesis{Subsidy: c.subsidy, Halving: c.halving, Tail: c.tail}
				if got := g.SubsidyAt(h); got != want {
					t.Errorf("subsidy(%d) = %d, want %d", h, got, want)
				}
			}
			want := new(big.Int).SetUint64(c.funded)
			want.Add(want, allSubsidies(c))
			g, err := chain.NewGenesis(c.genesis())
			if !want.IsInt64() {
				if err == nil {
					t.Errorf("MAX_SUPPLY %s is above 2^63-1 and accepted as %d", want, g.MaxSupply())
				}
				return
			}
			if err != nil || g.MaxSupply() != want.Uint64() {
				t.Errorf("MAX_SUPPLY %v, %v, want %s", g, err, want)
			}
		})
	}
}

type subsidyCase struct {
	name                  string
	subsidy, tail, funded uint64
	halving               uint32
	at                    map[uint64]uint64
}

func (c *subsidyCase) genesis() chain.Genesis {
	g := *chaintest.Genesis(nil)
	g.Subsidy, g.Halving, g.Tail = c.subsidy, c.halving, c.tail
	if c.funded > 0 {
		g.Balances = []chain.GenesisBalance{{Account: alice.Account, Balance: c.funded}}
	}
	return g
}

var subsidyCases = []subsidyCase{
	{"open network", 5_000_000_000, 10_000_000, 0, 12_614_400, map[uint64]uint64{
		1: 5_000_000_000, 12_614_400: 5_000_000_000, 12_614_401: 2_500_000_000, 25_228_800: 2_500_000_000,
		8*12_614_400 + 1: 19_531_250, 9*12_614_400 + 1: 10_000_000, 1<<32 - 1: 10_000_000}},
	{"nothing at all", 0, 0, 0, 1, map[uint64]uint64{1: 0, 2: 0, 1<<32 - 1: 0}},
	{"halving every block", 1000, 0, 5, 1, map[uint64]uint64{1: 1000, 2: 500, 3: 250, 4: 125, 5: 62, 10: 1, 11: 0, 64: 0, 65: 0, 66: 0, 1000: 0}},
	{"shift of 64 gives 0", 1 << 62, 0, 0, 1, map[uint64]uint64{1: 1 << 62, 63: 1, 64: 0, 65: 0, 128: 0, 1<<32 - 1: 0}},
	{"tail above the subsidy", 5, 9, 0, 10, map[uint64]uint64{1: 9, 10: 9, 11: 9, 1<<32 - 1: 9}},
	{"tail reached exactly", 64, 16, 0, 2, map[uint64]uint64{1: 64, 2: 64, 3: 32, 5: 16, 6: 16, 7: 16, 1<<32 - 1: 16}},
	{"no halving ever", 2_147_483_647, 0, 0, 1<<32 - 1, map[uint64]uint64{1: 2_147_483_647, 1<<32 - 1: 2_147_483_647}},
	{"one knot a block too many", 2_147_483_649, 0, 0, 1<<32 - 1, nil},
	{"all 2^63-1 funded", 0, 0, 1<<63 - 1, 1, nil},
	{"2^63 funded", 0, 0, 1 << 63, 1, nil},
	{"one above with the first subsidy", 1, 0, 1<<63 - 1, 1, nil},
	{"subsidy of 2^64-1", 1<<64 - 1, 0, 0, 1, map[uint64]uint64{1: 1<<64 - 1, 64: 1, 65: 0}},
	{"sum that is small in 64 bits", 1 << 63, 0, 0, 2, nil},
}

// allSubsidies sums epoch by epoch: 70 epochs, then the rest, which is tail alone.
func allSubsidies(c subsidyCase) *big.Int {
	total, last := new(big.Int), uint64(1<<32-1)
	h := uint64(1)
	for epoch := uint(0); epoch < 70 && h <= last; epoch++ {
		end := min(h+uint64(c.halving)-1, last)
		v := new(big.Int).Rsh(new(big.Int).SetUint64(c.subsidy), epoch)
		if tail := new(big.Int).SetUint64(c.tail); v.Cmp(tail) < 0 {
			v = tail
		}
		total.Add(total, v.Mul(v, new(big.Int).SetUint64(end-h+1)))
		h = end + 1
	}
	if h <= last {
		rest := new(big.Int).SetUint64(c.tail)
		total.Add(total, rest.Mul(rest, new(big.Int).SetUint64(last-h+1)))
	}
	return total
}
