package chain_test

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/chain/chaintest"
)

// The vector files are written only when asked: go test ./chain -run Vectors -update. Otherwise what the package
// makes must equal them byte for byte, so a change of a format can't pass unseen.
var update = flag.Bool("update", false, "rewrite docs/vectors/*.json")

const vectorDir = "../docs/vectors"

func vectorFile(t *testing.T, name string, v any) {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(vectorDir, name+".json")
	if *update {
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, buf.Bytes()) {
		at := 0
		for at < min(len(have), buf.Len()) && have[at] == buf.Bytes()[at] {
			at++
		}
		t.Errorf("%s differs from what the package makes, first at line %d", file, 1+bytes.Count(have[:at], []byte("\n")))
	}
}

type obj = map[string]any // keys are written in alphabetical order

func hx(b []byte) string     { return hex.EncodeToString(b) }
func dec(v uint64) string    { return strconv.FormatUint(v, 10) }
func bits8(b uint32) string  { return fmt.Sprintf("%08x", b) }
func hexes(h [][]byte) []any { return each(h, func(b []byte) any { return hx(b) }) }

func each[T any](list []T, f func(T) any) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

func TestVectorsTransaction(t *testing.T) {
	g := sceneGenesis()
	one := func(c byteCase) any {
		tx, _, err := chain.DecodeTx(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		return obj{
			"name": c.name, "rule": c.rule, "encoding": hx(c.raw), "size": len(c.raw), "txid": tx.ID(g.NetworkID()), "leaf": chain.LeafOf(c.raw),
			"from": tx.From, "nonce": dec(tx.Nonce), "fee": dec(tx.Fee), "valid_until": tx.ValidUntil, "memo": hx(tx.Memo),
			"outputs":   each(tx.Outputs, func(o chain.Output) any { return obj{"to": o.To, "amount": dec(o.Amount)} }),
			"signature": hx(tx.Signature[:]),
		}
	}
	vectorFile(t, "transaction", obj{
		"about":      "Transactions of one network: fields, encoding, hashes, and the rule of T1 to T4 that each breaks, or none. Then bytes that don't decode as one transaction.",
		"network_id": g.NetworkID(), "min_fee_rate": g.MinFeeRate, "max_supply": dec(g.MaxSupply()),
		"transactions": each(txCases(g), one),
		"undecodable":  each(decodeCases(g), func(c byteCase) any { return obj{"name": c.name, "rule": c.rule, "encoding": hx(c.raw)} }),
	})
}

func TestVectorsSignature(t *testing.T) {
	text, err := os.ReadFile("bip340/testdata/bip-0340.csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var list []any
	for _, r := range rows[1:] {
		low := func(i int) string { return strings.ToLower(r[i]) }
		v := obj{"name": "BIP-340 row " + r[0] + " " + r[7], "public_key": low(2), "message": low(4), "signature": low(5), "valid": r[6] == "TRUE"}
		if r[1] != "" {
			v["secret"], v["aux"] = low(1), low(3)
		}
		list = append(list, v)
	}
	g := sceneGenesis()
	for i, k := range []chaintest.Key{alice, bob} {
		signed := pay(g, k, uint64(i), 0, tx(out(carol.Account, 1)))
		id := signed.ID(g.NetworkID())
		aux := [32]byte{31: byte(i)}
		sig, err := bip340.Sign(&k.Secret, id[:], &aux)
		if err != nil {
			t.Fatal(err)
		}
		bad := sig
		bad[63] ^= 1
		list = append(list,
			obj{"name": "a txid signed by " + k.Name, "public_key": k.Account, "message": id, "secret": hx(k.Secret[:]), "aux": hx(aux[:]), "signature": hx(sig[:]), "valid": true},
			obj{"name": "the same, last bit of s flipped", "public_key": k.Account, "message": id, "signature": hx(bad[:]), "valid": false})
	}
	vectorFile(t, "signature", obj{
		"about":  "BIP-340. Where secret and aux stand, signature is what default signing gives.",
		"source": "bitcoin/bips, bip-0340/test-vectors.csv, for the rows named BIP-340", "signatures": list,
	})
}

func headerObj(h *chain.Header) obj {
	return obj{
		"version": h.Version, "height": dec(h.Height), "parent": h.Parent, "history_root": h.HistoryRoot, "time": dec(h.Time),
		"tx_root": h.TxRoot, "state_root": h.StateRoot, "miner": h.Miner, "tx_count": h.TxCount, "body_size": h.BodySize,
		"bits": bits8(h.Bits), "nonce": dec(h.Nonce),
	}
}

func TestVectorsHeader(t *testing.T) {
	gen := scene()
	var list []any
	add := func(name string, h chain.Header) {
		list = append(list, obj{"name": name, "header": headerObj(&h), "encoding": hx(h.Append(nil)), "id": h.ID(), "meets_target": chain.MeetsTarget(h.ID(), h.Bits)})
	}
	add("block 0", gen.Get("genesis").Header)
	add("block 7", gen.Get("b7").Header)
	h := gen.Get("b7").Header
	for h.Nonce++; chain.MeetsTarget(h.ID(), h.Bits); h.Nonce++ {
	}
	add("block 7 with a nonce that is no work", h)
	fill := func(b byte) (v [32]byte) { return [32]byte(slices.Repeat([]byte{b}, 32)) }
	add("every field different", chain.Header{
		Version: 0x01020304, Height: 0x05060708090a0b0c, Parent: fill(1), HistoryRoot: fill(2), Time: 0x0d0e0f1011121314, TxRoot: fill(3),
		StateRoot: fill(4), Miner: fill(5), TxCount: 0x15161718, BodySize: 0x191a1b1c, Bits: 0x1d1e1f20, Nonce: 0x2122232425262728,
	})
	add("every field at its largest", chain.Header{
		Version: 1<<32 - 1, Height: 1<<64 - 1, Parent: fill(255), HistoryRoot: fill(255), Time: 1<<64 - 1, TxRoot: fill(255), StateRoot: fill(255),
		Miner: fill(255), TxCount: 1<<32 - 1, BodySize: 1<<32 - 1, Bits: 0x207fffff, Nonce: 1<<64 - 1,
	})
	vectorFile(t, "header", obj{
		"about": "Headers: fields, 200 bytes, id, and whether the id meets the target of bits. The last two keep no rule but decode.", "headers": list,
		"undecodable": each(headerByteCases(), func(c byteCase) any { return obj{"name": c.name, "rule": c.rule, "encoding": hx(c.raw)} }),
	})
}

func TestVectorsAddress(t *testing.T) {
	var valid, refused []any
	for _, c := range addressCases(t) {
		if c.reason == "" {
			valid = append(valid, obj{"prefix": c.prefix, "account": c.account, "address": c.text})
		} else {
			refused = append(refused, obj{"prefix": c.prefix, "text": c.text, "reason": c.reason})
		}
	}
	vectorFile(t, "address", obj{
		"about":  "Addresses with their accounts (the same in upper case decodes as well), and texts that a decoder of that prefix refuses.",
		"source": "prefixes bc and tb: bitcoin/bips, bip-0350", "valid": valid, "refused": refused,
	})
}

func TestVectorsGenesis(t *testing.T) {
	open, err := os.ReadFile("../genesis.json")
	if err != nil {
		t.Fatal(err)
	}
	var valid, badJSON, badCanonical []any
	add := func(name string, text []byte) {
		g, err := chain.ParseGenesis(text)
		if err != nil {
			t.Fatal(err)
		}
		s := g.State()
		valid = append(valid, obj{
			"name": name, "json": string(text), "canonical": hx(g.Append(nil)), "network_id": g.NetworkID(), "supply": dec(g.Supply()),
			"block0": hx(s.Header.Append(nil)), "block0_id": s.ID, "max_supply": dec(g.MaxSupply()),
		})
	}
	add("the open network", open)
	add("the network of chain.json", sceneGenesis().JSON())
	for _, c := range genesisJSONCases(t) {
		if c.rule == "none" {
			add(c.name, c.raw)
		} else {
			badJSON = append(badJSON, obj{"name": c.name, "rule": c.rule, "json": string(c.raw)})
		}
	}
	for _, c := range genesisCanonicalCases() {
		badCanonical = append(badCanonical, obj{"name": c.name, "rule": c.rule, "canonical": hx(c.raw)})
	}
	vectorFile(t, "genesis", obj{
		"about": "Genesis files with canonical bytes, network id and block 0; then JSON texts and canonical bytes with one thing changed (rule none: allowed).",
		"valid": valid, "refused_json": badJSON, "refused_canonical": badCanonical,
	})
}

func TestVectorsBits(t *testing.T) {
	var canonical, not, to []any
	for _, b := range bitsCases {
		target, ok := chain.ToTarget(b)
		if !ok {
			not = append(not, obj{"bits": bits8(b)})
			continue
		}
		v, work := target.Bytes32(), chain.BlockWork(b)
		canonical = append(canonical, obj{"bits": bits8(b), "target": hx(v[:]), "work": work.Dec()})
	}
	for _, s := range targetCases {
		target := uint256.MustFromHex(s)
		v := target.Bytes32()
		to = append(to, obj{"target": hx(v[:]), "bits": bits8(chain.ToBits(target))})
	}
	vectorFile(t, "bits", obj{
		"about":     "Compact targets: those that are canonical with target (big-endian) and work, those that are not; then to_bits of targets, most of which bits can't hold exactly.",
		"canonical": canonical, "not_canonical": not, "to_bits": to,
	})
}

func TestVectorsSubsidy(t *testing.T) {
	var list []any
	for _, c := range subsidyCases {
		v := obj{"name": c.name, "subsidy": dec(c.subsidy), "halving": c.halving, "tail": dec(c.tail), "balances": dec(c.funded), "max_supply": nil}
		var heights []uint64
		for h := range c.at {
			heights = append(heights, h)
		}
		slices.Sort(heights)
		v["subsidies"] = each(heights, func(h uint64) any { return obj{"height": h, "knots": dec(c.at[h])} })
		if g, err := chain.NewGenesis(c.genesis()); err == nil {
			v["max_supply"] = dec(g.MaxSupply())
		}
		list = append(list, v)
	}
	vectorFile(t, "subsidy", obj{
		"about": "Subsidy by height, and MAX_SUPPLY with so many knots in genesis balances; null where it is above 2^63-1 and the genesis is refused.", "schedules": list,
	})
}

func TestVectorsChain(t *testing.T) {
	gen := scene()
	var blocks, accounts, invalid []any
	issued, burned := uint64(0), uint64(0)
	for i, b := range path(gen) {
		h := b.Header
		supply := uint64(0)
		for _, s := range gen.SetTip(b.Name).Accounts() {
			supply += s.Balance
		}
		if i > 0 {
			base := gen.SetTip(path(gen)[i-1].Name).Accounts()
			u, err := gen.G.Apply(&b.Checked, base)
			if err != nil {
				t.Fatal(err)
			}
			issued, burned = issued+u.Issued, burned+u.Burned
		}
		blocks = append(blocks, obj{
			"height": h.Height, "time": h.Time, "bits": bits8(h.Bits), "id": b.ID(), "tx_root": h.TxRoot, "history_root": h.HistoryRoot,
			"state_root": h.StateRoot, "work": b.State.Work.Dec(), "issued": dec(issued), "burned": dec(burned), "supply": dec(supply),
		})
	}
	at := gen.SetTip("b16").Accounts()
	for _, a := range sortedAccounts(at) {
		accounts = append(accounts, obj{"account": a, "balance": dec(at[a].Balance), "nonce": dec(at[a].Nonce)})
	}
	for _, c := range blockCases(gen) {
		invalid = append(invalid, obj{"name": c.name, "rule": c.rule, "parent": sceneHeight, "block": hx(c.block.Header.Append(nil)) + hx(c.block.Body)})
	}
	vectorFile(t, "chain", obj{
		"about":  "A chain as an export file, with what holds after each block from block 0 on (work, issued and burned are sums from the start), all accounts at its tip, and blocks (header, then body) on the parent of that height that break one rule each.",
		"export": hx(export(gen)), "blocks": blocks, "accounts": accounts, "invalid": invalid,
	})
}

// export is the export file of the scene (docs/spec.md §12).
func export(gen *chaintest.Gen) []byte {
	genesis := gen.G.Append(nil)
	file := []byte("quipu-chain/1\n")
	file = append(file, byte(len(genesis)), byte(len(genesis)>>8), byte(len(genesis)>>16), byte(len(genesis)>>24))
	file = append(file, genesis...)
	for _, b := range path(gen)[1:] {
		file = append(b.Header.Append(file), b.Body...)
	}
	return file
}

func sortedAccounts(m chain.Accounts) []chain.Account {
	var out []chain.Account
	for a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b chain.Account) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// TestIndependentChecker runs docs/check/check.py, which shares no code with this package, on the vectors, on the
// scene as an export file and on damaged export files.
func TestIndependentChecker(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	check := func(args ...string) (string, int) {
		cmd := exec.Command(python, append([]string{"../docs/check/check.py"}, args...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := check("vectors", vectorDir); code != 0 {
		t.Errorf("vectors: exit code %d\n%s", code, out)
	}
	gen := scene()
	file := export(gen)
	run := func(b []byte) (string, int) {
		name := filepath.Join(t.TempDir(), "chain")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return check(name)
	}
	tip := gen.Get("b16")
	want := fmt.Sprintf("height %d tip %s state_root %s\n", sceneHeight, tip.ID(), tip.Header.StateRoot)
	if out, code := run(file); code != 0 || out != want {
		t.Errorf("exit code %d, printed %q, want %q", code, out, want)
	}
	flipped := slices.Clone(file)
	flipped[len(flipped)-1] ^= 1 // the last block's nonce
	for name, b := range map[string][]byte{"a bit flipped": flipped, "cut short": file[:len(file)-1], "a byte more": append(slices.Clone(file), 0)} {
		if out, code := run(b); code != 1 || strings.Contains(out, "Traceback") {
			t.Errorf("%s: exit code %d, printed %q", name, code, out)
		}
	}
}
