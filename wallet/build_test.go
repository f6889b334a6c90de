package wallet

import (
	"errors"
	"math"
	"strings"
	"testing"

	"quipu/chain"
)

func mustAddress(t testing.TB, prefix string) string {
	t.Helper()
	return chain.EncodeAddress(prefix, GenerateKey().Account())
}

// TestPayment: a payment built and signed here passes every stateless rule of
// the chain, on this network and no other.
func TestPayment(t *testing.T) {
	g := testGenesis(t)
	w, err := Create(Path(t.TempDir(), "w"), testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(2) {
		from, err := w.Account(i)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := Build(g, Payment{From: from, Nonce: 7, ValidUntil: 99, Memo: []byte("for the cord"), NewAccounts: 1,
			Outputs: []chain.Output{{To: GenerateKey().Account(), Amount: 5}, {To: from, Amount: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Sign(i, &tx); err != nil {
			t.Fatal(err)
		}
		raw := tx.Append(nil)
		checked, errs := g.CheckTxs([][]byte{raw}, nil)
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		if want := uint64(2*len(raw)) + 100_000; checked[0].Tx().Fee != want {
			t.Errorf("fee %d, want %d", checked[0].Tx().Fee, want)
		}
		if _, errs := networkNamed(t, "another", "tqp").CheckTxs([][]byte{raw}, nil); !errors.Is(errs[0], chain.ErrSignature) {
			t.Errorf("on another network: %v", errs[0])
		}
		// The nonce of a signature is random: two differ, both hold.
		first := tx.Signature
		if err := w.Sign(i, &tx); err != nil || tx.Signature == first {
			t.Errorf("signed twice alike, %v", err)
		}
		if err := w.Sign(i+1, &tx); err == nil {
			t.Error("another account's key signed")
		}
		if err := w.Sign(i, &chain.Tx{From: from}); !errors.Is(err, ErrPayment) {
			t.Errorf("no outputs: %v", err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	g := testGenesis(t)
	to := GenerateKey().Account()
	good := func() Payment {
		return Payment{From: GenerateKey().Account(), Outputs: []chain.Output{{To: to, Amount: 1}}}
	}
	many := func(n int) (out []chain.Output) {
		for range n {
			out = append(out, chain.Output{To: to, Amount: 1})
		}
		return out
	}
	cases := []struct {
		name  string
		spoil func(p *Payment)
		says  string // "" if it must be taken
	}{
		{"as it is", func(p *Payment) {}, ""},
		{"255 recipients", func(p *Payment) { p.Outputs = many(255) }, ""},
		{"80 bytes of memo", func(p *Payment) { p.Memo = make([]byte, 80) }, ""},
		{"exact fee", func(p *Payment) { p.Fee = 2 * 159 }, ""},
		{"new account", func(p *Payment) { p.NewAccounts = 1 }, ""},
		{"no recipient", func(p *Payment) { p.Outputs = nil }, "0 recipients"},
		{"256 recipients", func(p *Payment) { p.Outputs = many(256) }, "256 recipients"},
		{"nothing", func(p *Payment) { p.Outputs[0].Amount = 0 }, "get nothing"},
		{"81 bytes of memo", func(p *Payment) { p.Memo = make([]byte, 81) }, "81 bytes"},
		{"off the curve", func(p *Payment) { p.Outputs[0].To = chain.Account{31: 5} }, "no account"},
		{"small fee", func(p *Payment) { p.Fee = 2*159 - 1 }, "at least 0.00000318"},
		{"fee without account price", func(p *Payment) { p.Fee, p.NewAccounts = 1000, 1 }, "at least 0.00100318"},
		{"more new than distinct", func(p *Payment) { p.Outputs, p.NewAccounts = many(3), 2 }, "2 new accounts"},
		{"negative new", func(p *Payment) { p.NewAccounts = -1 }, "-1 new accounts"},
		{"over supply", func(p *Payment) { p.Outputs[0].Amount = g.MaxSupply() }, "more than there are"},
		{"sum wraps", func(p *Payment) {
			p.Outputs = append(p.Outputs, p.Outputs[0])
			p.Outputs[0].Amount, p.Outputs[1].Amount = math.MaxUint64, 1<<20
		}, "more than there are"},
		{"fee huge", func(p *Payment) { p.Fee = math.MaxUint64 }, "more than there are"},
	}
	for _, c := range cases {
		p := good()
		c.spoil(&p)
		_, err := Build(g, p)
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrPayment) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestBuildCopies: the transaction shares nothing with the payment.
func TestBuildCopies(t *testing.T) {
	p := Payment{From: GenerateKey().Account(), Memo: []byte("a"), Outputs: []chain.Output{{To: GenerateKey().Account(), Amount: 1}}}
	tx, err := Build(testGenesis(t), p)
	if err != nil {
		t.Fatal(err)
	}
	p.Memo[0], p.Outputs[0].Amount = 'b', 9
	if tx.Memo[0] != 'a' || tx.Outputs[0].Amount != 1 {
		t.Error("shared")
	}
}

func TestLeastFee(t *testing.T) {
	g := *testGenesis(t)
	if fee, ok := LeastFee(&g, 159, 0); fee != 318 || !ok {
		t.Errorf("%d %v", fee, ok)
	}
	if fee, ok := LeastFee(&g, 199, 2); fee != 200_398 || !ok {
		t.Errorf("%d %v", fee, ok)
	}
	g.AccountPrice = math.MaxUint64
	for _, created := range []int{1, 2, 255} {
		if _, ok := LeastFee(&g, 159, created); ok {
			t.Errorf("%d accounts at a price of 2^64-1 fit", created)
		}
	}
	g.AccountPrice, g.MinFeeRate = chain.AnySupply, math.MaxUint32
	if _, ok := LeastFee(&g, 10_399, 1); ok {
		t.Error("more than 2^63-1 fits")
	}
	if fee, ok := LeastFee(&g, 10_399, 0); fee != 10_399*math.MaxUint32 || !ok {
		t.Errorf("%d %v", fee, ok)
	}
}

func TestAmounts(t *testing.T) {
	good := map[string]uint64{
		"0": 0, "1": 1e8, "1.5": 15e7, "0.00000001": 1, "1.50000000": 15e7, "0.0": 0, "10": 1e9,
		"92233720368.54775807": math.MaxInt64,
	}
	for s, want := range good {
		if got, err := ParseAmount(s); got != want || err != nil {
			t.Errorf("ParseAmount(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", " ", ".", "1.", ".5", "-1", "-0", "+1", "1 ", " 1", "1,5", "1e8", "0x1", "1_000", "1.2.3",
		"01", "00", "00.1", "0.000000001", "1.000000000", "92233720368.54775808", "99999999999999999999", "184467440737.09551616",
		"１", "1.5 QPU", "NaN", "inf", strings.Repeat("9", 10_000)} {
		if got, err := ParseAmount(s); err == nil || len(err.Error()) > 300 {
			t.Errorf("ParseAmount(%.40q) = %d, %v", s, got, err)
		}
	}
	for knots, want := range map[uint64]string{0: "0", 1: "0.00000001", 15e7: "1.5", 1e8: "1", 1e9: "10", math.MaxUint64: "184467440737.09551615"} {
		if got := FormatAmount(knots); got != want {
			t.Errorf("FormatAmount(%d) = %q", knots, got)
		}
	}
}

// FuzzParseAmount: what is taken is exact, and formats to the same number.
func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"1.5", "0.00000001", "92233720368.54775807", "01", "1e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseAmount(s)
		if err != nil {
			return
		}
		want := s
		if strings.Contains(s, ".") {
			want = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
		}
		if got := FormatAmount(n); got != want {
			t.Fatalf("%q gives %d, which is %q", s, n, got)
		}
	})
}
