package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/node"
	"quipu/rpc"
	"quipu/wallet"
)

func init() { chainVerbs = append(chainVerbs, (*app).chainImport, (*app).chainInfo) }

// importDoc is the result of chain import.
type importDoc struct {
	Schema    string          `json:"schema"`
	OK        bool            `json:"ok"`
	Problem   string          `json:"problem,omitempty"`
	File      string          `json:"file"`
	DataDir   string          `json:"data_dir"`
	Network   chain.NetworkID `json:"network"`
	Read      uint64          `json:"blocks_read"`
	Known     uint64          `json:"blocks_known"`   // of those, held before
	Applied   uint64          `json:"blocks_applied"` // of those, durable by this call
	Txs       uint64          `json:"txs"`            // in the applied
	Height    uint64          `json:"height"`         // of the tip now
	Tip       chain.BlockID   `json:"tip"`
	ElapsedMS int64           `json:"elapsed_ms"`
}

func (a *app) chainImport() *cobra.Command {
	c := &cobra.Command{
		Use: "import <file>", Short: "Verify an exported chain and add it to a stopped node's", Args: args(1, 1, "a file, or - for standard input"),
		Example: "  quipu chain import chain.quipu\n" +
			"  quipu chain import chain.quipu --data-dir ./copy",
		Long: "Reads what quipu chain export writes and checks all of it as if it came from a stranger: every header, every\n" +
			"signature, every root. Blocks that are there already are passed over, so an import that was stopped, by Ctrl-C\n" +
			"or kill -9, goes on where it was. Whatever came before a block that is refused, or before the place where a file\n" +
			"was cut, is kept. Without --data-dir the file must be of the open network; a new directory named with --data-dir\n" +
			"takes the file's network.",
		RunE: func(c *cobra.Command, given []string) error { return a.runImport(c.Context(), given[0]) },
	}
	a.addDataDir(c)
	return c
}

func (a *app) runImport(ctx context.Context, file string) error {
	in, size, err := a.openImport(file)
	if err != nil {
		return err
	}
	defer in.Close()
	defer context.AfterFunc(ctx, func() { in.Close() })() // Ctrl-C ends a read that waits for more
	read := &counter{r: in}
	g, blocks, err := ledger.ReadExport(read)
	if err != nil {
		return fail(exitOther, "", "%s: %w", file, err)
	}
	open := openNetwork()
	dir, err := a.nodeDir(open.Name)
	if err != nil {
		return err
	}
	if a.dataDir == "" && os.Getenv("QUIPU_DATA_DIR") == "" && g.NetworkID() != open.NetworkID() {
		return fail(exitData, "add --data-dir DIR, a new directory", "%s is of network %s, not of the open network %s", file, g, open)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(defaultGC)
	}
	start, bar := time.Now(), a.barOf("importing", "kB")
	n, err := node.Offline(node.Config{DataDir: dir, Genesis: g, FreeSpace: freeSpace})
	if errors.Is(err, ledger.ErrWrongGenesis) {
		return fail(exitData, "add --data-dir DIR, another directory", "%s is of network %s and %s holds another one", file, g, dir)
	}
	if err != nil {
		return startError(err, dir)
	}
	done, err := n.ImportStream(ctx, barred(blocks, read, size, bar), nil)
	tip := n.Tip()
	if cerr := n.Close(); err == nil {
		err = cerr
	}
	bar.done()
	doc := importDoc{
		Schema: "quipu.chain-import/v1", OK: err == nil, File: file, DataDir: dir, Network: g.NetworkID(), Read: done.Read,
		Known: done.Known, Applied: done.Applied, Txs: done.Txs, Height: tip.Header.Height, Tip: tip.ID,
		ElapsedMS: time.Since(start).Milliseconds(),
	}
	if err != nil {
		doc.Problem = err.Error()
	}
	if a.json {
		if jerr := a.writeJSON(doc); jerr != nil {
			return jerr
		}
	} else {
		took := time.Since(start)
		a.say("network %s, data %s", g, dir)
		a.say("%d blocks read, %d known before, %d verified and added with %d transactions in %s", done.Read, done.Known, done.Applied, done.Txs, ago(took))
		if done.Beside {
			a.say("the file's chain has less work than the one here: its blocks are kept, the tip stays")
		}
		fmt.Fprintf(a.out, "height        %d\ntip           %s\n", tip.Header.Height, tip.ID)
	}
	return importFailed(file, done.Height, err)
}

// importFailed says what ended an import, and that nothing before it is lost.
func importFailed(file string, height uint64, err error) error {
	var bad *node.InvalidBlockError
	var rule *chain.RuleError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad) && errors.As(err, &rule) && chain.WrongBody(rule):
		return fail(exitRejected, "", "%s is damaged: %w; the blocks before it were kept", file, bad)
	case errors.As(err, &bad):
		return fail(exitRejected, "", "%s: %w; the blocks before it were kept", file, bad)
	case errors.Is(err, ledger.ErrExport):
		return fail(exitOther, "get the rest of the file and import it again", "%s: %w; all whole blocks before that were kept", file, err)
	}
	return err
}

// openImport opens a file, or standard input, and says how long it is; 0 where that isn't known.
func (a *app) openImport(file string) (io.ReadCloser, int64, error) {
	if file == "-" {
		if c, ok := a.in.(io.ReadCloser); ok {
			return c, 0, nil
		}
		return io.NopCloser(a.in), 0, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		f.Close()
		return nil, 0, usageError("", "%s is no file", file)
	}
	return f, info.Size(), nil
}

// counter counts the bytes read through it.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// barred moves a bar with the bytes read, a little ahead of what is verified.
func barred(blocks iter.Seq2[chain.Block, error], read *counter, size int64, bar *bar) iter.Seq2[chain.Block, error] {
	return func(yield func(chain.Block, error) bool) {
		for b, err := range blocks {
			if !yield(b, err) {
				return
			}
			bar.update(uint64(read.n.Load())/1000, uint64(size)/1000)
		}
	}
}

// infoDoc is what a stopped node's ledger holds. Amounts are in knots.
type infoDoc struct {
	Schema   string          `json:"schema"`
	DataDir  string          `json:"data_dir"`
	Name     string          `json:"name"`
	Network  chain.NetworkID `json:"network"`
	Height   uint64          `json:"height"`
	Tip      chain.BlockID   `json:"tip"`
	TimeMS   uint64          `json:"time_ms"`
	Work     string          `json:"work"`
	Headers  int             `json:"headers"`
	Bodies   int             `json:"bodies"`
	Invalid  int             `json:"invalid"`
	Best     uint64          `json:"best_header_height"`
	Accounts int             `json:"accounts"`
	Supply   rpc.Decimal     `json:"supply"`
	Issued   rpc.Decimal     `json:"issued"`
	Burned   rpc.Decimal     `json:"burned"`
	Disk     uint64          `json:"disk_bytes"`
	Pruned   uint64          `json:"pruned,omitempty"`         // bodies aren't there up to this height
	History  *uint64         `json:"history_height,omitempty"` // accounts' histories are indexed up to here
	Sizes    []sizeDoc       `json:"sizes,omitempty"`          // with --sizes
}

type sizeDoc struct {
	Kind    string `json:"kind"`
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
}

func (a *app) chainInfo() *cobra.Command {
	var sizes bool
	c := &cobra.Command{
		Use: "info", Short: "What a stopped node's chain holds", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			i, err := ledger.LookInto(ledger.Config{Dir: dir})
			if err != nil {
				return err
			}
			d := infoDoc{
				Schema: "quipu.chain-info/v1", DataDir: filepath.Dir(dir), Name: i.Genesis.Name, Network: i.Genesis.NetworkID(),
				Height: i.Tip.Header.Height, Tip: i.Tip.ID, TimeMS: i.Tip.Header.Time, Work: i.Tip.Work.Dec(),
				Headers: i.Headers, Bodies: i.Bodies, Invalid: i.Invalid, Best: i.BestHeight, Accounts: i.Accounts,
				Supply: rpc.Decimal(i.Genesis.Supply() + i.Issued - i.Burned), Issued: rpc.Decimal(i.Issued), Burned: rpc.Decimal(i.Burned),
				Disk: i.DiskBytes,
			}
			d.Pruned = i.Pruned
			if i.History.Stored {
				d.History = &i.History.Height
			}
			if sizes {
				found, err := ledger.Sizes(c.Context(), ledger.Config{Dir: dir})
				if err != nil {
					return err
				}
				for _, s := range found {
					d.Sizes = append(d.Sizes, sizeDoc(s))
				}
			}
			if a.json {
				return a.writeJSON(d)
			}
			fmt.Fprintf(a.out, "network       %s (%s)\n", d.Name, d.Network)
			fmt.Fprintf(a.out, "height        %d\n", d.Height)
			fmt.Fprintf(a.out, "tip           %s\n", d.Tip)
			fmt.Fprintf(a.out, "time          %s\n", headerTime(d.TimeMS))
			fmt.Fprintf(a.out, "work          %s\n", d.Work)
			fmt.Fprintf(a.out, "headers       %d, bodies %d, invalid %d\n", d.Headers, d.Bodies, d.Invalid)
			fmt.Fprintf(a.out, "accounts      %d\n", d.Accounts)
			fmt.Fprintf(a.out, "supply        %s QPU: issued %s, burned %s\n",
				wallet.FormatAmount(uint64(d.Supply)), wallet.FormatAmount(uint64(d.Issued)), wallet.FormatAmount(uint64(d.Burned)))
			if d.Pruned > 0 {
				fmt.Fprintf(a.out, "pruned        bodies up to block %d\n", d.Pruned)
			}
			if d.History != nil {
				fmt.Fprintf(a.out, "history       of accounts, up to block %d\n", *d.History)
			}
			fmt.Fprintf(a.out, "disk          %d bytes in %s\n", d.Disk, dir)
			for _, s := range d.Sizes {
				fmt.Fprintf(a.out, "  %-18s %12d bytes in %d records\n", s.Kind, s.Bytes, s.Records)
			}
			return nil
		},
	}
	a.addDataDir(c)
	c.Flags().BoolVar(&sizes, "sizes", false, "with what each kind of record takes; reads every key")
	return c
}
