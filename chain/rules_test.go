package chain_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// byteCase is an encoding of a transaction or header that breaks one rule.
type byteCase struct {
	name, rule string
	kind       chain.ErrorKind
	raw        []byte
}

func anyTx(g *chain.Genesis) chain.Tx {
	t := tx(out(bob.Account, 1), out(carol.Account, 2))
	t.Memo = []byte("memo")
	return pay(g, alice, 7, 0, t)
}

// decodeCases are corruptions of a valid transaction that its decoding refuses.
func decodeCases(g *chain.Genesis) []byteCase {
	raw := chaintest.Raw(anyTx(g))
	with := func(at int, v byte) []byte { b := slices.Clone(raw); b[at] = v; return b }
	memoAt := 54 + 2*40
	return []byteCase{
		{"version 0", "D1", chain.ErrTxVersion, with(0, 0)},
		{"version 2", "D1", chain.ErrTxVersion, with(0, 2)},
		{"no outputs", "D2", chain.ErrNoOutputs, with(53, 0)},
		{"memo_len 81", "D3", chain.ErrMemoSize, append(with(memoAt, 81), make([]byte, 77)...)},
		{"memo_len 255", "D3", chain.ErrMemoSize, append(with(memoAt, 255), make([]byte, 251)...)},
		{"empty", "D4", chain.ErrTruncated, nil},
		{"version alone", "D4", chain.ErrTruncated, raw[:1]},
		{"cut in the head", "D4", chain.ErrTruncated, raw[:53]},
		{"cut before the outputs", "D4", chain.ErrTruncated, raw[:54]},
		{"cut in an output", "D4", chain.ErrTruncated, raw[:100]},
		{"cut before memo_len", "D4", chain.ErrTruncated, raw[:memoAt]},
		{"cut in the memo", "D4", chain.ErrTruncated, raw[:memoAt+3]},
		{"last byte missing", "D4", chain.ErrTruncated, raw[:len(raw)-1]},
		{"one output more than there is", "D4", chain.ErrTruncated, with(53, 255)},
		{"one byte more", "D5", chain.ErrTrailing, append(slices.Clone(raw), 0)},
		{"twice", "D5", chain.ErrTrailing, append(slices.Clone(raw), raw...)},
	}
}

// txCases are transactions that decode and break one stateless rule, or none.
func txCases(g *chain.Genesis) []byteCase {
	edit := func(f func(*chain.Tx)) []byte {
		t := anyTx(g)
		f(&t)
		return chaintest.Raw(alice.Sign(g, t, 0))
	}
	plain := edit(func(*chain.Tx) {})
	flip := func(at int) []byte { b := slices.Clone(plain); b[at] ^= 1; return b }
	onWrongNetwork := chaintest.Raw(alice.Sign(chaintest.Genesis(nil), anyTx(g), 0))
	max := g.MaxSupply()
	return []byteCase{
		{"two outputs and a memo", "none", "", plain},
		{"one output, no memo", "none", "", chaintest.Raw(pay(g, alice, 0, 0, tx(out(bob.Account, 1))))},
		{"255 outputs, 80 bytes of memo", "none", "", edit(func(t *chain.Tx) {
			t.Outputs, t.Memo = slices.Repeat(t.Outputs[:1], 255), make([]byte, 80)
			t.Fee = 10_399
		})},
		{"to an x off the curve", "none", "", edit(func(t *chain.Tx) { t.Outputs[0].To = offCurve() })},
		{"all of MAX_SUPPLY", "none", "", edit(func(t *chain.Tx) { t.Outputs[0].Amount = max - t.Fee - 2 })},
		{"largest nonce and valid_until", "none", "", edit(func(t *chain.Tx) { t.Nonce, t.ValidUntil = 1<<64-1, 1<<32-1 })},
		{"first amount 0", "T1", chain.ErrZeroAmount, edit(func(t *chain.Tx) { t.Outputs[0].Amount = 0 })},
		{"last amount 0", "T1", chain.ErrZeroAmount, edit(func(t *chain.Tx) { t.Outputs[1].Amount = 0 })},
		{"fee one knot too low", "T2", chain.ErrFeeTooLow, edit(func(t *chain.Tx) { t.Fee-- })},
		{"one knot above MAX_SUPPLY", "T3", chain.ErrOverSupply, edit(func(t *chain.Tx) { t.Outputs[0].Amount = max - t.Fee - 1 })},
		{"sum that is 1 in 64 bits", "T3", chain.ErrOverSupply, edit(func(t *chain.Tx) {
			t.Outputs[0].Amount, t.Outputs[1].Amount = 1<<63, 1<<63-t.Fee+1
		})},
		{"fee of 2^64-1", "T3", chain.ErrOverSupply, edit(func(t *chain.Tx) { t.Fee = 1<<64 - 1 })},
		{"signature bit flipped", "T4", chain.ErrSignature, flip(len(plain) - 1)},
		{"memo bit flipped", "T4", chain.ErrSignature, flip(54 + 80 + 1)},
		{"sender off the curve", "T4", chain.ErrSignature, func() []byte {
			b := slices.Clone(plain)
			a := offCurve()
			copy(b[1:], a[:])
			return b
		}()},
		{"signed for another network", "T4", chain.ErrSignature, onWrongNetwork},
	}
}

// headerByteCases are byte strings that are no header.
func headerByteCases() []byteCase {
	h := sceneGenesis().State().Header
	raw := h.Append(nil)
	return []byteCase{
		{"empty", "D4", chain.ErrTruncated, nil},
		{"199 bytes", "D4", chain.ErrTruncated, raw[:199]},
		{"201 bytes", "D5", chain.ErrTrailing, append(raw, 0)},
	}
}

// TestEachRuleBreaks: for each numbered rule a valid thing with that rule broken is refused with its kind and a
// RuleError, and the table has every kind of errors.go under the number written there.
func TestEachRuleBreaks(t *testing.T) {
	got := map[string]map[string]bool{} // kind → rules seen
	expect := func(t *testing.T, rule string, kind chain.ErrorKind, err error) {
		t.Helper()
		if rule == "none" {
			if err != nil {
				t.Errorf("valid, but: %v", err)
			}
			return
		}
		var re *chain.RuleError
		if !errors.As(err, &re) || re.Kind != kind || !errors.Is(err, kind) {
			t.Errorf("%v, want a RuleError of kind %s", err, kind)
		}
		if got[string(kind)] == nil {
			got[string(kind)] = map[string]bool{}
		}
		got[string(kind)][rule] = true
	}

	gen := scene()
	g := gen.G
	for _, c := range decodeCases(g) {
		t.Run(c.rule+" "+c.name, func(t *testing.T) {
			_, errs := g.CheckTxs([][]byte{c.raw}, nil)
			expect(t, c.rule, c.kind, errs[0])
		})
	}
	for _, c := range headerByteCases() {
		t.Run(c.rule+" header: "+c.name, func(t *testing.T) {
			_, err := chain.DecodeHeader(c.raw)
			expect(t, c.rule, c.kind, err)
		})
	}
	for _, c := range txCases(g) {
		t.Run(c.rule+" "+c.name, func(t *testing.T) {
			_, errs := g.CheckTxs([][]byte{c.raw}, nil)
			expect(t, c.rule, c.kind, errs[0])
		})
	}

	parent := gen.Tip().State
	accounts := gen.Accounts()
	for _, c := range blockCases(gen) {
		t.Run(c.rule+" block: "+c.name, func(t *testing.T) {
			_, err := validate(g, &parent, accounts, c.block)
			expect(t, c.rule, c.kind, err)
			want := append([]string{c.rule}, c.implied...)
			if all := brokenRules(gen, accounts, c.block); !slices.Equal(all, want) {
				t.Errorf("the block breaks %v, want exactly %v", all, want)
			}
			if wrong := c.rule == "B1" || c.rule == "B2"; chain.WrongBody(err) != wrong {
				t.Errorf("WrongBody = %v for a broken %s", !wrong, c.rule)
			}
		})
	}
	t.Run("H2 height above 2^32-1", func(t *testing.T) {
		last := parent
		last.Header.Height = chain.MaxHeight
		h := g.NewHeader(&last, alice.Account, 0)
		h.Solve(1 << 40)
		_, err := g.CheckHeader(&last, &h)
		expect(t, "H2", chain.ErrHeight, err)
		last.Header.Height--
		last.Peaks = make([]chain.Hash, 32) // as many as 2^32-1 blocks have
		h = g.NewHeader(&last, alice.Account, 0)
		h.Solve(1 << 40)
		if _, err := g.CheckHeader(&last, &h); err != nil {
			t.Errorf("height 2^32-1: %v", err)
		}
	})
	for _, c := range genesisJSONCases(t) {
		t.Run(c.rule+" genesis.json: "+c.name, func(t *testing.T) {
			_, err := chain.ParseGenesis(c.raw)
			expect(t, c.rule, chain.ErrGenesis, err)
		})
	}
	for _, c := range genesisCanonicalCases() {
		t.Run(c.rule+" canonical genesis: "+c.name, func(t *testing.T) {
			_, err := chain.DecodeGenesis(c.raw)
			expect(t, c.rule, chain.ErrGenesis, err)
		})
	}

	for kind, rules := range declaredKinds(t) {
		for _, rule := range rules {
			if !got[kind][rule] {
				t.Errorf("no case breaks %s with kind %s", rule, kind)
			}
		}
		if len(got[kind]) != len(rules) {
			t.Errorf("kind %s stands for %v in errors.go, the table has %v", kind, rules, got[kind])
		}
		delete(got, kind)
	}
	if len(got) > 0 {
		t.Errorf("kinds that errors.go doesn't declare: %v", got)
	}
}

// TestNobodysFault: an unknown parent (H1) and a version above ours (H3) are no RuleErrors.
func TestNobodysFault(t *testing.T) {
	gen := scene()
	parent := gen.Tip().State
	h := gen.G.NewHeader(&parent, alice.Account, 0)
	h.Version = chain.LatestVersion() + 1
	var re *chain.RuleError
	if _, err := gen.G.CheckHeader(&parent, &h); !errors.Is(err, chain.ErrUpgrade) || errors.As(err, &re) {
		t.Errorf("a newer version: %v", err)
	}
	h.Parent[0] ^= 1
	if _, err := gen.G.CheckHeader(&parent, &h); !errors.Is(err, chain.ErrUnknownParent) || errors.As(err, &re) {
		t.Errorf("an unknown parent: %v", err)
	}
	// The same broken transaction blames a block and not its sender.
	o := gen.G.NewOverlay(17, gen.Accounts())
	early := chaintest.Check(gen.G, pay(gen.G, alice, 99, 0, tx(out(bob.Account, 1))))
	if err := o.ApplyTx(&early[0]); !errors.Is(err, chain.ErrNonce) || errors.As(err, &re) {
		t.Errorf("a nonce ahead, not in a block: %v", err)
	}
}

var ruleNumber = regexp.MustCompile(`^[DTHBAG][1-9]`)

// declaredKinds reads errors.go: the text of each ErrorKind and the rules its comment names first ("G1 to G4" is four).
func declaredKinds(t *testing.T) map[string][]string {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "ErrorKind" || len(v.Values) == 0 {
			return true
		}
		kind, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		comment := v.Comment.Text()
		first := ruleNumber.FindString(comment)
		if first == "" || kinds[kind] != nil {
			t.Fatalf("%s: no rule number in its comment %q, or declared twice", kind, comment)
		}
		kinds[kind] = []string{first}
		if rest, found := strings.CutPrefix(comment, first+" to "); found {
			last := ruleNumber.FindString(rest)
			for n := first[1] + 1; n <= last[1]; n++ {
				kinds[kind] = append(kinds[kind], first[:1]+string(n))
			}
		}
		return true
	})
	if len(kinds) < 26 {
		t.Fatalf("only %d kinds found in errors.go", len(kinds))
	}
	return kinds
}

// TestSpecTable: the table of docs/spec.md §14 names the same kinds under the same rules as errors.go.
func TestSpecTable(t *testing.T) {
	text, err := os.ReadFile("../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| ([A-Z][0-9])(?: to ([A-Z][0-9]))? \| (.*?) \|`)
	quoted := regexp.MustCompile("`([^`]+)`")
	inSpec := map[string][]string{}
	var numbered []string
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		rules := []string{m[1]}
		if m[2] != "" {
			for n := m[1][1] + 1; n <= m[2][1]; n++ {
				rules = append(rules, m[1][:1]+string(n))
			}
		}
		numbered = append(numbered, rules...)
		for _, k := range quoted.FindAllStringSubmatch(m[3], -1) {
			inSpec[k[1]] = append(inSpec[k[1]], rules...)
		}
	}
	declared := declaredKinds(t)
	for kind, rules := range declared {
		if !slices.Equal(inSpec[kind], rules) {
			t.Errorf("%s: spec.md says %v, errors.go %v", kind, inSpec[kind], rules)
		}
	}
	if len(inSpec) != len(declared) {
		t.Errorf("spec.md has %d kinds, errors.go %d", len(inSpec), len(declared))
	}
	for _, rule := range numbered { // each is stated somewhere before the table
		if !strings.Contains(string(text), "**"+rule+"**") {
			t.Errorf("rule %s is in the table and nowhere stated", rule)
		}
	}
}
