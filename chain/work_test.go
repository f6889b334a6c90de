package chain_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holiman/uint256"

	"quipu/chain"
)

var bitsCases = []uint32{
	0x01010000, 0x01020000, 0x017f0000, 0x02008000, 0x027fff00, 0x03008000, 0x037fffff, 0x04008000, 0x047fffff, 0x1b0404cb, 0x1d00ffff, 0x1e00ffff,
	0x1f00ffff, 0x2000ffff, 0x207fffff, 0x2100ffff, 0x21008000, 0x1a2b3c4d,
	// not canonical: zero, sign, not normalized, bits below the point, above 2^256
	0x00000000, 0x01000000, 0x04000000, 0x007fffff, 0x01003456, 0x01018000, 0x0100ffff, 0x02000080, 0x02123456, 0x03000001, 0x04007fff, 0x04800000,
	0x1d80ffff, 0x1dffffff, 0x1d000001, 0x1d007fff, 0x21010000, 0x217fffff, 0x220000ff, 0x2200ffff, 0x23000001, 0xff7fffff, 0xffffffff,
}

var targetCases = []string{
	"0x1", "0x7f", "0x80", "0xff", "0x100", "0x7fff", "0x8000", "0xffff", "0x10000", "0x7fffff", "0x800000", "0xffffff", "0x1000000", "0x12345678",
	"0x7fffff80000000ff", "0x8000000000000001", "0xffff0000000000000000000000000000000000000000000000000000",
	"0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "0x8000000000000000000000000000000000000000000000000000000000000000",
	"0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

// bigBits is to_bits of docs/spec.md §7 over big integers.
func bigBits(t *big.Int) uint32 {
	e := len(t.Bytes())
	m := new(big.Int).Lsh(t, 24)
	m.Rsh(m, 8*uint(e))
	if m.Cmp(big.NewInt(1<<23)) >= 0 {
		m.Rsh(m, 8)
		e++
	}
	return uint32(e)<<24 + uint32(m.Uint64())
}

// TestTargets: ToTarget, ToBits and BlockWork against big integers over chosen and random bits and targets.
func TestTargets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := append([]uint32{}, bitsCases...)
	for range 50_000 {
		all = append(all, r.Uint32(), r.Uint32N(36)<<24|r.Uint32N(1<<24))
	}
	max := new(big.Int).Lsh(big.NewInt(1), 256)
	canonical := 0
	for _, b := range all {
		got, ok := chain.ToTarget(b)
		want := bigTarget(b)
		wantOK := b&0x800000 == 0 && want.Sign() > 0 && want.Cmp(max) < 0 && bigBits(want) == b
		if ok != wantOK {
			t.Fatalf("%08x: canonical %v, want %v", b, ok, wantOK)
		}
		if !ok {
			continue
		}
		canonical++
		if got.ToBig().Cmp(want) != 0 || chain.ToBits(&got) != b {
			t.Fatalf("%08x: target %s, want %s", b, got.Dec(), want)
		}
		if w := chain.BlockWork(b); w.ToBig().Cmp(bigWork(b)) != 0 {
			t.Fatalf("%08x: work %s, want %s", b, w.Dec(), bigWork(b))
		}
		var id chain.BlockID
		got.WriteToArray32((*[32]byte)(&id))
		if !chain.MeetsTarget(id, b) {
			t.Fatalf("%08x: an id equal to the target doesn't meet it", b)
		}
		if over := new(big.Int).Add(want, big.NewInt(1)); over.Cmp(max) < 0 {
			over.FillBytes(id[:])
			if chain.MeetsTarget(id, b) {
				t.Fatalf("%08x: an id above the target meets it", b)
			}
		}
	}
	if canonical < 10_000 {
		t.Fatalf("only %d of the bits tried are canonical", canonical)
	}
	for _, s := range targetCases {
		checkToBits(t, uint256.MustFromHex(s))
	}
	for range 50_000 {
		v := uint256.Int{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}
		v.Rsh(&v, uint(r.IntN(256)))
		if !v.IsZero() {
			checkToBits(t, &v)
		}
	}
}

// checkToBits: the bits of any target are canonical, floor it, and lose less than a part in 2^15.
func checkToBits(t *testing.T, v *uint256.Int) {
	t.Helper()
	b := chain.ToBits(v)
	if want := bigBits(v.ToBig()); b != want {
		t.Fatalf("bits of %s: %08x, want %08x", v.Hex(), b, want)
	}
	back, ok := chain.ToTarget(b)
	if !ok || back.Gt(v) {
		t.Fatalf("bits of %s: %08x, canonical %v, target %s", v.Hex(), b, ok, back.Hex())
	}
	var lost, most uint256.Int
	lost.Sub(v, &back)
	most.Rsh(v, 15)
	if lost.Gt(&most) {
		t.Fatalf("bits of %s lose %s", v.Hex(), lost.Hex())
	}
}

type asertCase struct {
	name                                    string
	anchor, limit                           uint32
	timeDiff, heightDiff, spacing, halfLife int64
	want                                    uint32
}

// asertRuns are the runs of the BCH specification: times from the anchor's parent.
func asertRuns(t testing.TB) []asertCase {
	files, err := filepath.Glob("testdata/asert/run*")
	if err != nil || len(files) != 6 {
		t.Fatal(files, err)
	}
	var cases []asertCase
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var anchorHeight, anchorTime int64
		var anchor uint32
		for s := bufio.NewScanner(f); s.Scan(); {
			line := s.Text()
			_, _ = fmt.Sscanf(line, "##   anchor height: %d", &anchorHeight)
			_, _ = fmt.Sscanf(line, "##   anchor ancestor time: %d", &anchorTime)
			_, _ = fmt.Sscanf(line, "##   anchor nBits: 0x%x", &anchor)
			var i, height, time int64
			var want uint32
			if n, _ := fmt.Sscanf(line, "%d %d %d 0x%x", &i, &height, &time, &want); n == 4 {
				cases = append(cases, asertCase{fmt.Sprintf("BCH %s, iteration %d", filepath.Base(name), i), anchor, 0x1d00ffff, time - anchorTime, height - anchorHeight, 600, 172_800, want})
			}
		}
	}
	if len(cases) != 10+10+10+225+225+1000 {
		t.Fatalf("%d iterations", len(cases))
	}
	return cases
}

// dcrdCases are dcrd's scenarios. DCP0011 counts time from the anchor itself and has no + 1, so it is our form with one
// spacing more. Heights near 2^63 matter only by their difference.
func dcrdCases(t testing.TB) []asertCase {
	text, err := os.ReadFile("testdata/asert-dcrd.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Params map[string]struct {
			PowLimit            string
			TargetSecsPerBlock  int64
			HalfLifeSecs        int64
			UnusedPowLimitBits2 uint32 `json:"powLimitBits"` // the file's testnet entry contradicts its own powLimit
		}
		Scenarios []struct {
			Description, Params    string
			StartDiffBits          uint32
			StartHeight, StartTime int64
			Tests                  []struct {
				Height           uint64
				Timestamp        int64
				ExpectedDiffBits uint32
			}
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var cases []asertCase
	for _, s := range file.Scenarios {
		p := file.Params[s.Params]
		limit := chain.ToBits(uint256.MustFromHex("0x" + strings.TrimLeft(p.PowLimit, "0")))
		for _, c := range s.Tests {
			height := int64(c.Height - uint64(s.StartHeight))
			cases = append(cases, asertCase{fmt.Sprintf("dcrd, %s, height %d", s.Description, c.Height), s.StartDiffBits, limit,
				c.Timestamp - s.StartTime + p.TargetSecsPerBlock, height, p.TargetSecsPerBlock, p.HalfLifeSecs, c.ExpectedDiffBits})
		}
	}
	if len(cases) < 800 {
		t.Fatalf("%d scenarios' tests", len(cases))
	}
	return cases
}

// edgeCases reach the clamp, both ends of the shift, and numbers that would wrap in 64 bits.
var edgeCases = []asertCase{
	{"on time", 0x1d00ffff, 0x207fffff, 1000, 0, 1000, 144_000, 0},
	{"at once", 0x1d00ffff, 0x207fffff, 1, 0, 1000, 144_000, 0},
	{"the longest interval that counts", 0x1d00ffff, 0x207fffff, 289_000, 0, 1000, 144_000, 0},
	{"just short of on time: exponent truncates to 0", 0x1d00ffff, 0x207fffff, 999_999, 0, 1_000_000, 1_000_000_000, 0},
	{"just late: exponent truncates to 0", 0x1d00ffff, 0x207fffff, 1_000_001, 0, 1_000_000, 1_000_000_000, 0},
	{"one unit early: the shift of -1 is arithmetic", 0x1d00ffff, 0x207fffff, 0, 0, 100, 102_400, 0},
	{"at the limit and late", 0x207fffff, 0x207fffff, 2000, 0, 1000, 32_000, 0},
	{"at target 1 and early", 0x01010000, 0x207fffff, 1, 0, 1000, 32_000, 0},
	{"at target 1 and late by a half-life", 0x01010000, 0x207fffff, 33_000, 0, 1000, 32_000, 0},
	{"at target 2^256 - something", 0x2100ffff, 0x2100ffff, 289_000, 0, 1000, 144_000, 0},
	{"largest time", 0x1d00ffff, 0x207fffff, math.MaxInt64, 0, 1, 1, 0},
	{"smallest time, largest height", 0x1d00ffff, 0x207fffff, math.MinInt64, math.MaxInt64, math.MaxInt64, 1, 0},
	{"largest of all", 0x1d00ffff, 0x207fffff, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, 0},
}

// bigASERT is docs/spec.md §7 to the letter, over rationals where it has powers of two.
func bigASERT(c asertCase) uint32 {
	over := big.NewInt(c.heightDiff)
	over.Add(over, big.NewInt(1)).Mul(over, big.NewInt(c.spacing)).Sub(big.NewInt(c.timeDiff), over)
	exponent := over.Quo(over.Mul(over, big.NewInt(65536)), big.NewInt(c.halfLife))
	shifts, frac := new(big.Int).DivMod(exponent, big.NewInt(65536), new(big.Int)) // Euclidean: frac ≥ 0
	limit := bigTarget(c.limit)
	if shifts.Cmp(big.NewInt(600)) > 0 {
		return bigBits(limit)
	}
	if shifts.Cmp(big.NewInt(-600)) < 0 {
		return bigBits(big.NewInt(1))
	}
	factor := big.NewInt(1 << 47)
	power := big.NewInt(1)
	for _, k := range []int64{195766423245049, 971821376, 5127} {
		power.Mul(power, frac)
		factor.Add(factor, new(big.Int).Mul(big.NewInt(k), power))
	}
	factor.Rsh(factor, 48).Add(factor, big.NewInt(65536))
	next := new(big.Rat).SetInt(factor.Mul(factor, bigTarget(c.anchor)))
	two := new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(new(big.Int).Abs(shifts).Uint64())))
	if shifts.Sign() < 0 {
		two.Inv(two)
	}
	next.Mul(next, two).Quo(next, big.NewRat(65536, 1))
	v := new(big.Int).Div(next.Num(), next.Denom())
	if v.Sign() == 0 {
		v.SetInt64(1)
	}
	if v.Cmp(limit) > 0 {
		v = limit
	}
	return bigBits(v)
}

func (c *asertCase) bits() uint32 {
	return chain.ASERT(c.anchor, c.limit, c.timeDiff, c.heightDiff, c.spacing, c.halfLife)
}

// TestASERT: the published vectors of Bitcoin Cash and Decred, and both the edges and random inputs against big numbers.
func TestASERT(t *testing.T) {
	for _, c := range append(asertRuns(t), dcrdCases(t)...) {
		if got := c.bits(); got != c.want {
			t.Errorf("%s: %08x, want %08x", c.name, got, c.want)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	random := edgeCases
	for range 3000 {
		v := uint256.Int{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64() >> 1}
		v.Rsh(&v, uint(r.IntN(255))).AddUint64(&v, 1)
		half := 32_000 + r.Int64N(1_000_000)
		random = append(random, asertCase{"random", chain.ToBits(&v), 0x207fffff, r.Int64N(40*half) - 20*half, r.Int64N(3), 1000, half, 0})
	}
	for _, c := range random {
		if got, want := c.bits(), bigASERT(c); got != want {
			t.Errorf("%s: %+v gives %08x, want %08x", c.name, c, got, want)
		}
	}
}

// TestASERTFractions: the cubic for each of its 65,536 fractions, with an anchor that shows every bit of the factor.
func TestASERTFractions(t *testing.T) {
	const anchor = 0x1d7fffff
	for frac := range int64(65536) {
		x := big.NewInt(frac)
		f := big.NewInt(5127) // Horner's scheme: ((5127x + 971821376)x + 195766423245049)x + 2^47
		f.Mul(f, x).Add(f, big.NewInt(971821376)).Mul(f, x).Add(f, big.NewInt(195766423245049)).Mul(f, x).Add(f, big.NewInt(1<<47))
		f.Rsh(f, 48).Add(f, big.NewInt(65536)).Mul(f, bigTarget(anchor)).Rsh(f, 16)
		if got, want := chain.ASERT(anchor, 0x207fffff, 1+frac, 0, 1, 65536), bigBits(f); got != want {
			t.Fatalf("fraction %d: %08x, want %08x", frac, got, want)
		}
	}
}

// schedule mines on a network of constant hash rate, in expectation and without hashing: intervals are exponential
// with mean work/rate, drawn from r. It returns times of blocks in ms and their bits.
type schedule struct {
	g     *chain.Genesis
	r     *rand.Rand
	rate  float64 // hashes a ms
	state chain.State
}

func (s *schedule) next(asleep uint64) {
	bits := s.g.NextBits(&s.state)
	work := chain.BlockWork(bits)
	interval := max(1, uint64(work.Float64()/s.rate*s.r.ExpFloat64()))
	h := chain.Header{Height: s.state.Header.Height + 1, Time: s.state.Header.Time + asleep + interval, Bits: bits}
	s.state = chain.State{Header: h, ParentTime: s.state.Header.Time}
}

// TestASleepingNetworkOwesNoStorm: over 20,000 blocks the mean interval keeps near spacing. After eight hours without a
// block the network is owed 28,800; with an absolute anchor they come at once (11,881 in the first minute). Here the
// capped interval makes targets four times easier at most, and 2·half_life/spacing = 288 blocks in all come early.
func TestASleepingNetworkOwesNoStorm(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		g := sceneGenesis()
		g.HalfLife, g.Bits = 144*g.Spacing, 0x1d00ffff
		work := chain.BlockWork(g.Bits)
		s := schedule{g: g, r: rand.New(rand.NewPCG(seed, 0)), rate: work.Float64() / float64(g.Spacing), state: g.State()}
		s.next(0)
		start := s.state.Header.Time
		const n = 20_000
		for range n {
			s.next(0)
		}
		if mean := float64(s.state.Header.Time-start) / n / float64(g.Spacing); mean < 0.97 || mean > 1.03 {
			t.Errorf("seed %d: the mean interval is %.3f spacings", seed, mean)
		}
		s.next(8 * 3600 * 1000)
		woke, minute, hour := s.state.Header.Time, 0, 0
		for s.state.Header.Time < woke+3_600_000 {
			s.next(0)
			hour++
			if s.state.Header.Time < woke+60_000 {
				minute++
			}
		}
		if minute > 240 || hour < 3600+288-150 || hour > 3600+288+150 {
			t.Errorf("seed %d: %d blocks in the minute after waking, %d in the hour", seed, minute, hour)
		}
		t.Logf("seed %d: %d blocks in the minute after waking, %d in the hour", seed, minute, hour)
	}
}

// TestNextBits holds which headers the difficulty rule looks at, by hand.
func TestNextBits(t *testing.T) {
	g := sceneGenesis()
	s := g.State()
	if b := g.NextBits(&s); b != g.Bits {
		t.Errorf("bits(1) = %08x", b)
	}
	s = chain.State{Header: chain.Header{Height: 1, Time: g.Time + 9_999_999, Bits: g.Bits}, ParentTime: g.Time}
	if b := g.NextBits(&s); b != g.Bits {
		t.Errorf("bits(2) = %08x", b)
	}
	for _, interval := range []uint64{1, 999, 1000, 1001, 32_000, 65_000, 65_001, 1 << 40, 1<<53 - 2} {
		s = chain.State{Header: chain.Header{Height: 2, Time: 1 + interval, Bits: g.Bits}, ParentTime: 1}
		capped := int64(min(interval, 65_000)) // spacing + 2·half_life
		if got, want := g.NextBits(&s), bigASERT(asertCase{"", g.Bits, g.LimitBits, capped, 0, 1000, 32_000, 0}); got != want {
			t.Errorf("interval %d: bits %08x, want %08x", interval, got, want)
		}
	}
}

func TestVectorsASERT(t *testing.T) {
	pick := append([]asertCase{}, edgeCases...)
	for i, c := range append(asertRuns(t), dcrdCases(t)...) {
		if i%9 == 0 || c.name[:9] == "BCH run01" {
			pick = append(pick, c)
		}
	}
	one := func(c asertCase) any {
		return obj{
			"name": c.name, "anchor_bits": bits8(c.anchor), "limit_bits": bits8(c.limit), "time_diff": fmt.Sprint(c.timeDiff),
			"height_diff": fmt.Sprint(c.heightDiff), "spacing": fmt.Sprint(c.spacing), "half_life": fmt.Sprint(c.halfLife), "bits": bits8(c.bits()),
		}
	}
	var chains []any
	for _, c := range []struct {
		name      string
		intervals []uint64
	}{
		{"on time", []uint64{1000, 1000, 1000, 1000, 1000, 1000}},
		{"at once", []uint64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{"late, up to the limit", []uint64{60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000}},
		{"asleep", []uint64{1000, 1000, 65_000, 65_001, 28_800_000, 500, 500, 500}},
	} {
		g := sceneGenesis()
		s := g.State()
		blocks := []any{obj{"time": s.Header.Time, "bits": bits8(s.Header.Bits)}}
		for _, interval := range c.intervals {
			h := chain.Header{Height: s.Header.Height + 1, Time: s.Header.Time + interval, Bits: g.NextBits(&s)}
			s = chain.State{Header: h, ParentTime: s.Header.Time}
			blocks = append(blocks, obj{"time": h.Time, "bits": bits8(h.Bits)})
		}
		chains = append(chains, obj{
			"name": c.name, "genesis_bits": bits8(g.Bits), "limit_bits": bits8(g.LimitBits), "spacing": g.Spacing, "half_life": g.HalfLife, "blocks": blocks,
		})
	}
	vectorFile(t, "asert", obj{
		"about":  "ASERT, then bits of whole chains from block 0 on by the difficulty rule.",
		"source": "names with BCH: runs of the aserti3-2d specification; with dcrd: decred/dcrd blockchain/standalone, fed with one spacing more; the rest: quipu",
		"cases":  each(pick, one), "chains": chains,
	})
}
