package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/rpc"
	"quipu/wallet"
)

// verifyDoc is the result of chain verify. Amounts are in knots.
type verifyDoc struct {
	Schema     string          `json:"schema"`
	OK         bool            `json:"ok"`
	Problem    string          `json:"problem,omitempty"`
	DataDir    string          `json:"data_dir"`
	Network    chain.NetworkID `json:"network"`
	Height     uint64          `json:"height"`
	Tip        chain.BlockID   `json:"tip"`
	Work       string          `json:"work"`
	StateRoot  chain.Hash      `json:"state_root"`
	Txs        uint64          `json:"txs"`
	Signatures uint64          `json:"signatures"` // verified by this run
	From       uint64          `json:"from"`       // first block replayed; the accounts before it come from undo, or genesis
	Damaged    string          `json:"damaged_tables,omitempty"`
	BodyBytes  uint64          `json:"body_bytes"`
	Accounts   uint64          `json:"accounts"`
	Issued     rpc.Decimal     `json:"issued"`
	Burned     rpc.Decimal     `json:"burned"`
	ElapsedMS  int64           `json:"elapsed_ms"`
}

// verifyLedger is replaced in tests.
var verifyLedger = ledger.Verify

func (a *app) chainVerify() *cobra.Command {
	var from uint64
	c := &cobra.Command{
		Use: "verify", Short: "Replay a stopped node's chain from genesis and recompute every root", Args: args(0, 0, ""),
		Example: "  quipu chain verify\n" +
			"  quipu chain verify --from 120000",
		Long: "Replays a stopped node's chain from genesis: every header rule, every signature, every root, and that all\n" +
			"balances together are what genesis and subsidies gave less what was burned, at every block. Then it compares\n" +
			"accounts and tip with what is stored, and reads every table of the database. It exits 10 if anything differs and\n" +
			"names the first thing that does.\n\n" +
			"With --from it begins at a height, for a quick look or where older bodies were pruned. Undo leads back to the\n" +
			"accounts before that block: their root must be the one that the header before it names, and they must add up.\n" +
			"Taken on trust is that the blocks before it kept the rules; their headers and work are checked. Undo reaches back\n" +
			"4,096 blocks at least. From further back all is replayed, without the signatures below that height.",
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			start, bar := time.Now(), a.barOf("verifying", "blocks")
			r, err := verifyLedger(c.Context(), ledger.Config{Dir: dir}, from, bar.update)
			bar.done()
			opened := r.Network != chain.NetworkID{}
			if err != nil && !(opened && errors.Is(err, ledger.ErrCorrupt)) {
				return err
			}
			took := time.Since(start)
			doc := verifyDoc{
				Schema: "quipu.chain-verify/v1", OK: err == nil, DataDir: filepath.Dir(dir), Network: r.Network,
				Height: r.Height, Tip: r.Tip, Work: r.Work.Dec(), StateRoot: r.StateRoot, Txs: r.Txs, Signatures: r.Signatures, From: r.From, Damaged: r.Damaged,
				BodyBytes: r.BodyBytes, Accounts: r.Accounts, Issued: rpc.Decimal(r.Issued), Burned: rpc.Decimal(r.Burned),
				ElapsedMS: took.Milliseconds(),
			}
			if err != nil {
				doc.Problem = err.Error()
			}
			if a.json {
				if err := a.writeJSON(doc); err != nil {
					return err
				}
			} else {
				a.printVerify(&doc, took)
			}
			if err != nil {
				return checkFailed("move "+shellQuote(dir)+" away and let the node sync again", "the chain in %s doesn't hold after block %d: %v", dir, r.Height, err)
			}
			return nil
		},
	}
	a.addDataDir(c)
	c.Flags().Uint64Var(&from, "from", 0, "`HEIGHT` to begin at, by undo")
	return c
}

func (a *app) printVerify(d *verifyDoc, took time.Duration) {
	word := "holds"
	if !d.OK {
		word = "DOES NOT HOLD, checked up to here"
	}
	fmt.Fprintf(a.out, "chain         %s\n", word)
	fmt.Fprintf(a.out, "network       %s\n", d.Network)
	fmt.Fprintf(a.out, "height        %d\n", d.Height)
	fmt.Fprintf(a.out, "tip           %s\n", d.Tip)
	fmt.Fprintf(a.out, "state root    %s\n", d.StateRoot)
	fmt.Fprintf(a.out, "work          %s\n", d.Work)
	switch {
	case d.From > 1:
		fmt.Fprintf(a.out, "replayed      blocks %d to %d; of those before, headers only\n", d.From, d.Height)
	case d.Txs > d.Signatures:
		a.say("undo doesn't reach back to that height: everything was replayed, older signatures were taken as verified")
	}
	fmt.Fprintf(a.out, "transactions  %d, signatures verified %d\n", d.Txs, d.Signatures)
	fmt.Fprintf(a.out, "accounts      %d\n", d.Accounts)
	fmt.Fprintf(a.out, "issued        %s QPU, burned %s QPU; at every block replayed all balances add up to genesis + issued - burned\n",
		wallet.FormatAmount(uint64(d.Issued)), wallet.FormatAmount(uint64(d.Burned)))
	if d.Damaged != "" {
		fmt.Fprintf(a.out, "damaged       %s\n", d.Damaged)
	}
	fmt.Fprintf(a.out, "took          %s\n", ago(took))
}

type exportDoc struct {
	Schema  string `json:"schema"`
	File    string `json:"file"`
	DataDir string `json:"data_dir"`
	Bytes   int64  `json:"bytes"`       // in the file now
	Found   int64  `json:"bytes_found"` // of those, there before
	Blocks  uint64 `json:"blocks"`
}

func (a *app) chainExport() *cobra.Command {
	c := &cobra.Command{
		Use: "export <file>", Short: "Write a stopped node's chain to a file others can check", Args: args(1, 1, "a file, or - for standard output"),
		Long: "Writes \"quipu-chain/1\\n\", the length of the canonical genesis as u32, the genesis, then header and body of\n" +
			"every block from height 1 (docs/spec.md). A file that exists is held against the chain byte for byte and gone on\n" +
			"with where it ends: an export that was stopped goes on, and an old one gets the blocks that came since. A file that\n" +
			"isn't a beginning of this chain is left as it is. When a block can't be read, those before it are in the file.",
		RunE: func(c *cobra.Command, given []string) error { return a.runExport(c.Context(), given[0]) },
	}
	a.addDataDir(c)
	return c
}

func (a *app) runExport(ctx context.Context, file string) error {
	dir, err := a.ledgerDir()
	if err != nil {
		return err
	}
	doc := exportDoc{Schema: "quipu.chain-export/v1", File: file, DataDir: filepath.Dir(dir)}
	bar := a.barOf("exporting", "blocks")
	count := func(done, total uint64) { doc.Blocks = done; bar.update(done, total) }
	write := func(w io.Writer) error { return ledger.Export(ctx, ledger.Config{Dir: dir}, w, count) }
	switch {
	case file != "-":
		doc.Bytes, doc.Found, err = goOnWith(file, write)
	case a.json:
		return usageError("", "--json and an export to standard output can't go together")
	default:
		err = write(a.out)
	}
	bar.done()
	var other *notPrefix
	switch {
	case errors.As(err, &other):
		return usageError("choose another name", "%s exists already and isn't a beginning of this chain: %w. It was left as it was", file, other)
	case err != nil && file != "-" && doc.Bytes > 0:
		a.say("%s holds %s; running it again goes on", file, plural(doc.Blocks, "%d whole block", "%d whole blocks"))
		return err
	case err != nil:
		return err
	}
	if a.json {
		return a.writeJSON(doc)
	}
	if doc.Found > 0 {
		a.say("%s: %d bytes were there", file, doc.Found)
	}
	a.say("%s: %d blocks, %d bytes", file, doc.Blocks, doc.Bytes)
	return nil
}

// notPrefix says that what is in a file isn't what would be written there.
type notPrefix struct {
	at   int64 // the first byte that differs, as far as was read
	ends bool  // the file only goes on after all that would be written
}

func (e *notPrefix) Error() string {
	if e.ends {
		return fmt.Sprintf("it goes on after byte %d, where the chain ends", e.at)
	}
	return fmt.Sprintf("it differs from byte %d on", e.at)
}

// goOnWith makes a file of what write gives, or goes on with one that holds a beginning of it. It returns the file's
// size and how much was there. An error leaves what has been written, for the next try; one that wraps *notPrefix
// leaves all as it was.
func goOnWith(path string, write func(io.Writer) error) (size, found int64, err error) {
	fresh := !exists(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, 0, usageError("", "%s is no file", path)
	}
	w := continued{f: f, found: info.Size()}
	err = write(&w)
	if err == nil && w.at < w.found {
		err = &notPrefix{w.at, true}
	}
	if fresh && w.at == 0 { // nothing came of it: leave no empty file
		return 0, 0, errors.Join(err, os.Remove(path))
	}
	return max(w.at, w.found), w.found, errors.Join(err, f.Sync(), f.Close())
}

// continued compares what is written with what the file holds, and adds what it doesn't.
type continued struct {
	f         *os.File
	at, found int64
	buf       []byte
}

func (w *continued) Write(b []byte) (int, error) {
	n := 0
	if there := min(int64(len(b)), w.found-w.at); there > 0 {
		w.buf = slices.Grow(w.buf[:0], int(there))[:there]
		if _, err := w.f.ReadAt(w.buf, w.at); err != nil {
			return 0, err
		}
		for i := range w.buf {
			if w.buf[i] != b[i] {
				return 0, &notPrefix{at: w.at + int64(i)}
			}
		}
		n = int(there)
	}
	more, err := w.f.WriteAt(b[n:], w.at+int64(n))
	w.at += int64(n + more)
	return n + more, err
}

func (a *app) addDataDir(c *cobra.Command) {
	c.Flags().StringVar(&a.dataDir, "data-dir", "", "`DIR` of the node's data (default: $QUIPU_DATA_DIR or the open network's)")
}

// ledgerDir is the ledger of a stopped node's data directory.
func (a *app) ledgerDir() (string, error) {
	dir, err := a.nodeDir(openNetwork().Name)
	if err != nil {
		return "", err
	}
	if !exists(dir) {
		return "", fail(exitNotFound, "add --data-dir DIR", "there is no data directory %s", dir)
	}
	return filepath.Join(dir, "chain"), nil
}

// writeNewFile writes a file that must not exist: to a temporary one beside it, which then takes the name in one
// step. It returns the size.
func writeNewFile(path string, mode os.FileMode, write func(io.Writer) error) (int64, error) {
	taken := func() error {
		return usageError("choose another name", "%s exists already, it was left as it is", path)
	}
	if exists(path) {
		return 0, taken()
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err != nil {
		return 0, err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := write(tmp); err != nil {
		return 0, err
	}
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return 0, err
	}
	err = os.Link(tmp.Name(), path) // fails if path exists, in one step
	if err != nil && !errors.Is(err, os.ErrExist) && !exists(path) {
		err = os.Rename(tmp.Name(), path) // a file system without hard links
	}
	if errors.Is(err, os.ErrExist) {
		return 0, taken()
	}
	return size, err
}
