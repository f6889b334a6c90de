package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/ledger"
)

// The kill harness: a process that imports a chain, or follows a script of reorgs, is killed at random moments, its
// start included. It prints its tip whenever that is durable. After each kill an independent replay must agree with
// all that is stored, accounts' histories among it, and the tip may not have less work than any that was printed; where
// the chain was being applied anew from block 0, the tip that the next process prints first may not. (Killed while it
// mines and syncs: TestKill9TenTimes.)

// feedNode is the process that gets killed: it takes all blocks of a file, says done, and waits.
func feedNode(dir, how, file string) error {
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }() // never outlives the test
	cfg := Config{DataDir: dir, Genesis: crashGenesis(), TestNet: true, undoKeep: 128, History: true}
	if how == "startover" {
		cfg.undoKeep = 4
	}
	n, err := Offline(cfg)
	if err != nil {
		return err
	}
	if err := n.startOver(context.Background()); err != nil { // one that was interrupted
		return err
	}
	last := chain.BlockID{}
	say := func() {
		if tip := n.Tip(); tip.ID != last {
			last = tip.ID
			fmt.Printf("%d %s\n", tip.Header.Height, tip.Work.Dec())
		}
	}
	say()
	blocks, err := readScript(file)
	if err != nil {
		return err
	}
	switch how {
	case "import":
		_, err = n.ImportStream(context.Background(), func(yield func(chain.Block, error) bool) {
			for _, b := range blocks {
				if !yield(b, nil) {
					return
				}
			}
		}, func(Imported) { say() })
	case "reorg", "startover":
		for _, b := range blocks {
			if _, err = n.AddHeaders([]chain.Header{b.Header}); err != nil {
				break
			}
			if err = n.Import([]chain.Block{b}); err != nil {
				break
			}
			if err = n.startOver(context.Background()); err != nil {
				break
			}
			if err = n.IndexHistory(context.Background()); err != nil {
				break
			}
			say()
		}
	default:
		err = errors.New("feed how?")
	}
	if err != nil {
		return err
	}
	fmt.Println("done")
	select {}
}

// writeScript keeps blocks in the order in which they are to be fed: header ‖ body each.
func writeScript(t *testing.T, blocks []*chaintest.Block) string {
	t.Helper()
	var out bytes.Buffer
	for _, b := range blocks {
		out.Write(b.Header.Append(nil))
		out.Write(b.Body)
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func readScript(file string) (blocks []chain.Block, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for len(raw) > 0 {
		h, err := chain.DecodeHeader(raw[:chain.HeaderSize])
		if err != nil {
			return nil, err
		}
		raw = raw[chain.HeaderSize:]
		blocks = append(blocks, chain.Block{Header: h, Body: raw[:h.BodySize]})
		raw = raw[h.BodySize:]
	}
	return blocks, nil
}

// kills is how many a kind of run gets before the end of its script. With the 100 of TestKill9TenTimes the long run has 240.
func kills() int {
	if os.Getenv("QUIPU_LONG") != "" {
		return 70
	}
	return 3
}

func TestKilledWhileImporting(t *testing.T) {
	n := 1500
	if os.Getenv("QUIPU_LONG") != "" {
		n = 4000
	}
	gen := chaintest.New(crashGenesis())
	blocks := gen.Chain("m", n, func(i int) []chain.Tx {
		if i%8 != 0 {
			return nil
		}
		return []chain.Tx{alice.Pay(gen.G, uint64(i/8), 0, chaintest.To(bob, 1), chaintest.To(chaintest.NewKey(fmt.Sprint(i%512)), 7))}
	})
	killHarness(t, "import", blocks, blocks[n-1])
}

// base -> x1 -> … and base -> y1 -> …, each in turn made one block longer than the other: reorgs of depth 1, 2, … 40.
func TestKilledWhileReorganising(t *testing.T) { killedOverBranches(t, "reorg") }

// The same with undo of four blocks: most of the reorgs start over from block 0.
func TestKilledWhileStartingOver(t *testing.T) { killedOverBranches(t, "startover") }

func killedOverBranches(t *testing.T, how string) {
	gen := chaintest.New(crashGenesis())
	blocks := gen.Chain("base", 5, nil)
	tips := [2]string{"base5", "base5"}
	height := [2]int{}
	for round := range 40 {
		side := round % 2
		gen.SetTip(tips[side])
		for height[side] <= height[1-side] {
			height[side]++
			tips[side] = fmt.Sprint([]string{"x", "y"}[side], height[side])
			nonce := gen.Account(alice.Account).Nonce
			b := gen.Next(tips[side], []chain.Tx{alice.Pay(gen.G, nonce, uint64(side), chaintest.To(bob, uint64(height[side])))})
			blocks = append(blocks, b)
		}
	}
	killHarness(t, how, blocks, blocks[len(blocks)-1])
}

// killHarness runs and kills the process again and again. When it gets to the end of its script it begins anew in
// another directory.
func killHarness(t *testing.T, how string, script []*chaintest.Block, end *chaintest.Block) {
	file := writeScript(t, script)
	rng := rand.New(rand.NewPCG(9, uint64(len(script))))
	dir := t.TempDir()
	var told uint256.Int // the most work printed in this directory
	ends, midway, want := 0, 0, kills()
	for i := 0; midway < want || ends == 0; i++ {
		if i > 20*want {
			t.Fatalf("%d kills fell in the middle of the script, %d behind its end", midway, ends)
		}
		out := startAndKill(t, rng, dir, how, file, midway < want)
		if out.lines > 0 && out.began.Lt(&told) {
			t.Fatalf("kill %d: opened with work %s, had told of %s", i, out.began.Dec(), told.Dec())
		}
		midway++
		if out.most.Gt(&told) {
			told = out.most
		}
		report, err := ledger.Verify(t.Context(), ledger.Config{Dir: filepath.Join(dir, "chain"), Genesis: crashGenesis()}, 0, nil)
		switch {
		case errors.Is(err, ledger.ErrNoLedger) && told.IsZero(): // killed before anything was made
		case how == "startover" && err == nil && !out.done: // a valid, shorter chain; the next start goes on, see out.began
		case how == "startover" && errors.Is(err, ledger.ErrCorrupt) && strings.Contains(err.Error(), "start the node, which goes on"):
		case err != nil:
			t.Fatalf("kill %d: %v", i, err)
		case report.Work.Lt(&told):
			t.Fatalf("kill %d: work %s is stored, %s was told of", i, report.Work.Dec(), told.Dec())
		}
		if out.done {
			if report.Tip != end.ID() {
				t.Fatalf("kill %d: the script ends at %s, the chain at %s", i, end.ID(), report.Tip)
			}
			ends++
			midway--
			dir, told = t.TempDir(), uint256.Int{}
		}
	}
	t.Logf("%s: %d kills in the middle of the script, %d behind its end", how, midway, ends)
}

// told is what a process printed before it was killed.
type told struct {
	lines       int
	began, most uint256.Int
	done        bool
}

func (o *told) read(line string) error {
	var height uint64
	var work string
	if line == "done\n" {
		o.done = true
		return nil
	}
	if _, err := fmt.Sscanf(line, "%d %s\n", &height, &work); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	var w uint256.Int
	if err := w.SetFromDecimal(work); err != nil {
		return err
	}
	if o.lines++; o.lines == 1 {
		o.began = w
	}
	if w.Lt(&o.most) {
		return fmt.Errorf("work fell from %s to %s", o.most.Dec(), work)
	}
	o.most = w
	return nil
}

// startAndKill kills the process a random moment after a random one of its lines, or, if kill isn't set, when it is
// done.
func startAndKill(t *testing.T, rng *rand.Rand, dir, how, file string, kill bool) (out told) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	var stderr strings.Builder
	cmd.Env = append(os.Environ(), "QUIPU_TEST_NODE_DIR="+dir, "QUIPU_TEST_NODE_FEED="+how, "QUIPU_TEST_NODE_SCRIPT="+file)
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	lines, within := rng.IntN(12), time.Duration(rng.IntN(20_000))*time.Microsecond
	if rng.IntN(6) == 0 {
		lines, within = 0, 5*within // while it opens
	}
	r := bufio.NewReader(stdout)
	read := func() bool {
		line, err := r.ReadString('\n') // a line cut by the kill isn't counted
		if err != nil {
			return false
		}
		if err := out.read(line); err != nil {
			t.Fatal(err)
		}
		return true
	}
	for n := 0; (n < lines || !kill) && !out.done; n++ {
		if !read() {
			break
		}
	}
	if kill {
		<-time.After(within) // nothing is waited for: this draws the moment of the kill
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	for read() {
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("it ended by itself with exit code %d: %s", code, stderr.String())
	}
	return out
}
