package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
		Long: "Replays a stopped node's chain from genesis: every header rule, every signature, every root, and that all\n" +
			"balances together are what genesis and subsidies gave less what was burned, at every block. Then it compares\n" +
			"accounts and tip with what is stored. It exits 10 if anything differs and names the first thing that does.",
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			start, bar := time.Now(), a.bar("verifying")
			r, err := verifyLedger(c.Context(), ledger.Config{Dir: dir}, from, bar.update)
			bar.done()
			opened := r.Network != chain.NetworkID{}
			if err != nil && !(opened && errors.Is(err, ledger.ErrCorrupt)) {
				return err
			}
			took := time.Since(start)
			doc := verifyDoc{
				Schema: "quipu.chain-verify/v1", OK: err == nil, DataDir: filepath.Dir(dir), Network: r.Network,
				Height: r.Height, Tip: r.Tip, Work: r.Work.Dec(), StateRoot: r.StateRoot, Txs: r.Txs, Signatures: r.Signatures,
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
	c.Flags().Uint64Var(&from, "from", 0, "`HEIGHT` below which signatures are taken as verified; roots and balances never are")
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
	fmt.Fprintf(a.out, "transactions  %d, signatures verified %d\n", d.Txs, d.Signatures)
	fmt.Fprintf(a.out, "accounts      %d\n", d.Accounts)
	fmt.Fprintf(a.out, "issued        %s QPU, burned %s QPU; at every block all balances add up to genesis + issued - burned\n",
		wallet.FormatAmount(uint64(d.Issued)), wallet.FormatAmount(uint64(d.Burned)))
	fmt.Fprintf(a.out, "took          %s\n", ago(took))
}

type exportDoc struct {
	Schema  string `json:"schema"`
	File    string `json:"file"`
	DataDir string `json:"data_dir"`
	Bytes   int64  `json:"bytes"`
	Blocks  uint64 `json:"blocks"`
}

func (a *app) chainExport() *cobra.Command {
	c := &cobra.Command{
		Use: "export <file>", Short: "Write a stopped node's chain to a file others can check", Args: args(1, 1, "a file, or - for standard output"),
		Long: "Writes \"quipu-chain/1\\n\", the length of the canonical genesis as u32, the genesis, then header and body of\n" +
			"every block from height 1 (docs/spec.md). A file that exists is never overwritten.",
		RunE: func(c *cobra.Command, given []string) error {
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			doc := exportDoc{Schema: "quipu.chain-export/v1", File: given[0], DataDir: filepath.Dir(dir)}
			bar := a.bar("exporting")
			count := func(done, total uint64) { doc.Blocks = done; bar.update(done, total) }
			write := func(w io.Writer) error { return ledger.Export(c.Context(), ledger.Config{Dir: dir}, w, count) }
			if doc.File == "-" {
				if a.json {
					return usageError("", "--json and an export to standard output can't go together")
				}
				err = write(a.out)
			} else {
				doc.Bytes, err = writeNewFile(doc.File, 0o644, write)
			}
			bar.done()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(doc)
			}
			a.say("%s: %d blocks, %d bytes", doc.File, doc.Blocks, doc.Bytes)
			return nil
		},
	}
	a.addDataDir(c)
	return c
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
