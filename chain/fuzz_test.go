package chain_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"quipu/chain"
)

// Fuzz targets of everything that decodes outside bytes: no panic, and what decodes encodes back to the same bytes.

// wantRuleError fails unless a refusal blames whoever made the bytes.
func wantRuleError(t *testing.T, err error) {
	t.Helper()
	var re *chain.RuleError
	if !errors.As(err, &re) {
		t.Fatalf("refused with %v, which is no RuleError", err)
	}
}

func FuzzTx(f *testing.F) {
	g := sceneGenesis()
	for _, c := range append(decodeCases(g), txCases(g)...) {
		f.Add(c.raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tx, n, err := chain.DecodeTx(b)
		if err != nil {
			wantRuleError(t, err)
		} else {
			if n > len(b) || n < chain.TxMinSize || n > chain.TxMaxSize || n != tx.Size() || !bytes.Equal(tx.Append(nil), b[:n]) {
				t.Fatalf("%d of %d bytes decode to %+v, which encodes otherwise", n, len(b), tx)
			}
			if tx.ID(g.NetworkID()) != chain.TxIDOf(g.NetworkID(), b[:n]) {
				t.Fatal("two ways to the txid differ")
			}
		}
		checked, errs := g.CheckTxs([][]byte{b}, nil)
		if errs[0] != nil {
			wantRuleError(t, errs[0])
		} else if n != len(b) || !bytes.Equal(checked[0].Raw(), b) || checked[0].Leaf() != chain.LeafOf(b) {
			t.Fatal("a checked transaction isn't what was checked")
		}
	})
}

func FuzzHeader(f *testing.F) {
	gen := scene()
	for _, b := range path(gen) {
		f.Add(b.Header.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := chain.DecodeHeader(b)
		if (err == nil) != (len(b) == chain.HeaderSize) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err != nil {
			wantRuleError(t, err)
			return
		}
		if !bytes.Equal(h.Append(nil), b) {
			t.Fatalf("%x decodes to %+v, which encodes otherwise", b, h)
		}
		for _, parent := range []string{"genesis", "b1", "b9", "b16"} {
			s := gen.Get(parent).State
			h.Parent = s.ID // let the fuzzer past H1
			if _, err := gen.G.CheckHeader(&s, &h); err != nil && !errors.Is(err, chain.ErrUpgrade) {
				wantRuleError(t, err)
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	gen := scene()
	for _, b := range path(gen) {
		f.Add(b.Body)
		f.Add(append(b.Body, 1))
	}
	for _, c := range decodeCases(gen.G) {
		f.Add(c.raw)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		raws, err := chain.SplitBody(body)
		var whole []byte
		for at := 0; ; { // the same by decoding one after another
			if at == len(body) {
				if err != nil || !bytes.Equal(whole, body) {
					t.Fatalf("it decodes to its end, but SplitBody says %v", err)
				}
				break
			}
			tx, n, one := chain.DecodeTx(body[at:])
			if one != nil {
				if err == nil || !errors.Is(err, chain.ErrBodyDecode) || !chain.WrongBody(err) {
					t.Fatalf("it doesn't decode, but SplitBody says %v", err)
				}
				break
			}
			whole = tx.Append(whole)
			at += n
		}
		h := gen.Get("b1").Header
		if err == nil {
			leaves := make([]chain.LeafHash, len(raws))
			for i, raw := range raws {
				leaves[i] = chain.LeafOf(raw)
			}
			h.TxRoot, h.TxCount, h.BodySize = chain.MTH(leaves), uint32(len(raws)), uint32(len(body))
			if _, err := gen.G.AssumeChecked(chain.Block{Header: h, Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		checked, errs := gen.G.CheckBlocks([]chain.Block{{Header: h, Body: body}}, nil)
		if errs[0] != nil {
			wantRuleError(t, errs[0])
			return
		}
		if _, err := gen.G.Apply(&checked[0], gen.Accounts()); err != nil {
			wantRuleError(t, err)
		}
	})
}

func FuzzGenesisCanonical(f *testing.F) {
	for _, c := range genesisCanonicalCases() {
		f.Add(c.raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := chain.DecodeGenesis(b)
		if err != nil {
			wantRuleError(t, err)
			return
		}
		if !bytes.Equal(g.Append(nil), b) {
			t.Fatalf("%x encodes otherwise", b)
		}
		if s, err := chain.ParseGenesis(g.JSON()); err == nil && s.NetworkID() != g.NetworkID() {
			t.Fatal("its JSON is another network")
		} else if err != nil && !strings.Contains(err.Error(), "no point of the curve") {
			t.Fatalf("its JSON is refused: %v", err)
		}
	})
}

func FuzzGenesisJSON(f *testing.F) {
	for _, c := range genesisJSONCases(f) {
		f.Add(c.raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := chain.ParseGenesis(b)
		if err != nil {
			wantRuleError(t, err)
			return
		}
		again, err := chain.DecodeGenesis(g.Append(nil))
		if err != nil || again.NetworkID() != g.NetworkID() {
			t.Fatalf("its canonical bytes: %v", err)
		}
		third, err := chain.ParseGenesis(g.JSON())
		if err != nil || third.NetworkID() != g.NetworkID() {
			t.Fatalf("its own JSON: %v", err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, c := range addressCases(f) {
		f.Add(c.prefix, c.text)
	}
	f.Fuzz(func(t *testing.T, prefix, s string) {
		a, err := chain.DecodeAddress(prefix, s)
		if err != nil {
			return
		}
		if back := chain.EncodeAddress(prefix, a); back != strings.ToLower(s) || s != strings.ToLower(s) && s != strings.ToUpper(s) {
			t.Fatalf("%q decodes, and is written %q", s, back)
		}
	})
}

func FuzzHexText(f *testing.F) {
	f.Add([]byte(alice.Account.String()))
	f.Add(bytes.ToUpper([]byte(alice.Account.String())))
	f.Fuzz(func(t *testing.T, s []byte) {
		var a chain.Account
		if err := a.UnmarshalText(s); err != nil {
			return
		}
		if back, err := a.MarshalText(); err != nil || !bytes.Equal(back, s) {
			t.Fatalf("%q is written %q, %v", s, back, err)
		}
	})
}
