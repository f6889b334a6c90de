package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/chain/ledger"
)

func init() {
	chainVerbs = append(chainVerbs, (*app).chainRollback, (*app).chainReconsider, (*app).chainReindex, (*app).chainCompact)
}

// toolSpace asks for free space as a node does.
func toolSpace(dir string) ledger.Config { return ledger.Config{Dir: dir, FreeSpace: freeSpace} }

type rollbackDoc struct {
	Schema  string         `json:"schema"`
	DataDir string         `json:"data_dir"`
	From    uint64         `json:"from"`   // height of the tip before
	Height  uint64         `json:"height"` // after
	Tip     chain.BlockID  `json:"tip"`
	Refused *chain.BlockID `json:"refused,omitempty"` // with --invalidate
}

func (a *app) chainRollback() *cobra.Command {
	var invalidate bool
	c := &cobra.Command{
		Use: "rollback <height>", Short: "Take a stopped node's chain back to a height", Args: args(1, 1, "a height"),
		Example: "  quipu chain rollback 120034\n" +
			"  quipu chain rollback 120034 --invalidate",
		Long: "Reverts the blocks above a height by their undo records, so that accounts, transaction index and tip are those\n" +
			"of that block. At most about 4,100 blocks can be reverted. Bodies and headers stay.\n\n" +
			"The next start applies the reverted blocks again, since they are still the heaviest branch: that checks their\n" +
			"effect anew and changes nothing else. With --invalidate the node refuses the block above that height, and all that\n" +
			"descends from it, until quipu chain reconsider takes that back. It follows the heaviest other branch then. Peers\n" +
			"that follow the refused one aren't banned; a node that refuses what all others follow is alone.",
		RunE: func(c *cobra.Command, given []string) error {
			height, err := strconv.ParseUint(given[0], 10, 32)
			if err != nil {
				return usageError("quipu chain rollback 100", "%.80q is no height", given[0])
			}
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			bar := a.barOf("reverting", "blocks")
			r, err := ledger.Rollback(c.Context(), toolSpace(dir), height, invalidate, bar.update)
			bar.done()
			if err != nil {
				if r.To < r.From {
					a.say("stopped at height %d; running it again goes on", r.To)
				}
				return err
			}
			doc := rollbackDoc{Schema: "quipu.chain-rollback/v1", DataDir: filepath.Dir(dir), From: r.From, Height: r.To, Tip: r.Tip}
			if invalidate {
				doc.Refused = &r.Refused
			}
			if a.json {
				return a.writeJSON(doc)
			}
			fmt.Fprintf(a.out, "height        %d, was %d\ntip           %s\n", r.To, r.From, r.Tip)
			if invalidate {
				fmt.Fprintf(a.out, "refused       %s\n", r.Refused)
				a.say("the node won't follow that block again; to take it back: %s", a.typed("quipu chain reconsider "+r.Refused.String()))
			} else {
				a.say("the next start applies these blocks again; --invalidate keeps a node from doing so")
			}
			return nil
		},
	}
	a.addDataDir(c)
	c.Flags().BoolVar(&invalidate, "invalidate", false, "refuse the block above that height from now on")
	return c
}

type reconsiderDoc struct {
	Schema  string        `json:"schema"`
	DataDir string        `json:"data_dir"`
	Block   chain.BlockID `json:"block"`
	Was     string        `json:"was"`
}

func (a *app) chainReconsider() *cobra.Command {
	c := &cobra.Command{
		Use: "reconsider <block id>", Short: "Let a stopped node judge a refused or invalid block anew", Args: args(1, 1, "a block id"),
		Long: "Takes back the mark of a block that rollback --invalidate refused, or that was found invalid. The next start checks\n" +
			"it anew: one that breaks a rule is found invalid again.",
		RunE: func(_ *cobra.Command, given []string) error {
			var id chain.BlockID
			if err := id.UnmarshalText([]byte(given[0])); err != nil {
				return usageError("", "%.80q is no block id of 64 hex digits", given[0])
			}
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			was, err := ledger.Reconsider(toolSpace(dir), id)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(reconsiderDoc{"quipu.chain-reconsider/v1", filepath.Dir(dir), id, was})
			}
			a.say("block %s is judged anew at the next start; it was %s", id, quoteHex(was))
			return nil
		},
	}
	a.addDataDir(c)
	return c
}

type reindexDoc struct {
	Schema    string        `json:"schema"`
	DataDir   string        `json:"data_dir"`
	Headers   uint64        `json:"headers"`          // found whole
	Bodies    uint64        `json:"bodies"`           // found whole
	Forgotten uint64        `json:"bodies_forgotten"` // damaged: the node fetches them again
	Height    uint64        `json:"height"`
	Tip       chain.BlockID `json:"tip"`
	ElapsedMS int64         `json:"elapsed_ms"`
}

func (a *app) chainReindex() *cobra.Command {
	c := &cobra.Command{
		Use: "reindex", Short: "Rebuild a stopped node's accounts and indexes from its headers and bodies", Args: args(0, 0, ""),
		Long: "For a data directory whose derived records are damaged while headers and bodies are whole: it checks those first,\n" +
			"then drops best chain, indexes, undo records and accounts and makes them anew by applying every block,\n" +
			"with all rules but signatures, which were verified when the bodies came. A damaged body is forgotten and fetched\n" +
			"again from peers. A damaged header can't be mended: then nothing is changed, and the node has to sync again. If\n" +
			"it is interrupted, run it again.",
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			start, bar := time.Now(), a.barOf("checking", "blocks")
			r, err := ledger.Reindex(c.Context(), toolSpace(dir), func(stage string, done, total uint64) {
				if stage != bar.what {
					bar.done()
					bar = a.barOf(stage, "blocks")
				}
				bar.update(done, total)
			})
			bar.done()
			if err != nil {
				return err
			}
			took := time.Since(start)
			doc := reindexDoc{"quipu.chain-reindex/v1", filepath.Dir(dir), r.Headers, r.Bodies, r.Forgotten, r.Height, r.Tip, took.Milliseconds()}
			if a.json {
				return a.writeJSON(doc)
			}
			fmt.Fprintf(a.out, "height        %d\ntip           %s\n", r.Height, r.Tip)
			fmt.Fprintf(a.out, "found whole   %d headers, %d bodies\n", r.Headers, r.Bodies)
			if r.Forgotten > 0 {
				fmt.Fprintf(a.out, "forgotten     %s: fetched again when the node runs\n", plural(r.Forgotten, "%d damaged body", "%d damaged bodies"))
			}
			fmt.Fprintf(a.out, "took          %s\n", ago(took))
			return nil
		},
	}
	a.addDataDir(c)
	return c
}

type compactDoc struct {
	Schema    string `json:"schema"`
	DataDir   string `json:"data_dir"`
	To        string `json:"to,omitempty"`
	Height    uint64 `json:"height"`
	Pruned    uint64 `json:"pruned"` // bodies aren't there up to this height
	Before    uint64 `json:"disk_bytes_before"`
	After     uint64 `json:"disk_bytes_after"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

func (a *app) chainCompact() *cobra.Command {
	var keep int
	var to string
	c := &cobra.Command{
		Use: "compact", Short: "Rewrite a stopped node's database so that it takes the least room", Args: args(0, 0, ""),
		Example: "  quipu chain compact --prune 10000\n" +
			"  quipu chain compact --prune 10000 --to /mnt/other/chain",
		Long: "Rewrites the database without what was deleted, and with --prune without bodies but those of the last blocks: for\n" +
			"a disk so full that a node doesn't start. In place it removes old bodies first, which takes 64 MiB of room, and then\n" +
			"rewrites the tables, which takes as much room as they do; where there isn't so much it exits 11. With --to the\n" +
			"result goes to a new directory on another disk, and the old one isn't touched. Start the node with --prune as well,\n" +
			"or it keeps all bodies from then on.",
		RunE: func(c *cobra.Command, _ []string) error {
			if keep != 0 && keep < minPrune {
				return usageError("", "--prune %d: at least %d, the blocks that a reorg may take back; 0 keeps all", keep, minPrune)
			}
			dir, err := a.ledgerDir()
			if err != nil {
				return err
			}
			if to != "" {
				if to, err = filepath.Abs(to); err != nil {
					return err
				}
			}
			start, bar := time.Now(), a.barOf("copying", "kB")
			r, err := ledger.Compact(c.Context(), toolSpace(dir), keep, to, func(done, total uint64) { bar.update(done/1000, total/1000) })
			bar.done()
			var low *ledger.LowSpaceError
			switch {
			case errors.As(err, &low) && low.Dir == dir && r.Height > 0:
				return fail(exitSpace, "quipu chain compact --to DIR, a new directory on another disk", "bodies are gone up to block %d, and to give their room back takes %d MiB; %s has %d MiB free", r.Pruned, low.Need>>20, dir, low.Free>>20)
			case errors.Is(err, ledger.ErrTaken):
				return usageError("choose another directory", "%w", err)
			case err != nil:
				return err
			}
			took := time.Since(start)
			if a.json {
				return a.writeJSON(compactDoc{"quipu.chain-compact/v1", filepath.Dir(dir), to, r.Height, r.Pruned, r.Before, r.After, took.Milliseconds()})
			}
			fmt.Fprintf(a.out, "height        %d\n", r.Height)
			if r.Pruned > 0 {
				fmt.Fprintf(a.out, "pruned        bodies up to block %d\n", r.Pruned)
			}
			fmt.Fprintf(a.out, "disk          %d bytes, were %d\ntook          %s\n", r.After, r.Before, ago(took))
			if to != "" {
				a.say("%s is as it was; to take the new one: rm -r %s && mv %s %s", dir, shellQuote(dir), shellQuote(to), shellQuote(dir))
			}
			return nil
		},
	}
	a.addDataDir(c)
	c.Flags().IntVar(&keep, "prune", 0, "`N` bodies to keep, counted from the tip, at least 4096; 0 keeps all that are there")
	c.Flags().StringVar(&to, "to", "", "new `DIR` for the result, on a disk with room")
	return c
}

// minPrune is the fewest bodies a node keeps: those that a reorg may take back.
const minPrune = 4096

// parseCheckpoints reads HEIGHT:ID, each height once.
func parseCheckpoints(given []string, g *chain.Genesis) (map[uint64]chain.BlockID, error) {
	var out map[uint64]chain.BlockID
	for _, s := range given {
		at, hex, _ := strings.Cut(s, ":")
		height, err := strconv.ParseUint(at, 10, 32)
		var id chain.BlockID
		if err == nil {
			err = id.UnmarshalText([]byte(hex))
		}
		if err != nil {
			return nil, usageError("quipu chain block HEIGHT, on a node you trust, shows an id", "--checkpoint %.100q is no HEIGHT:ID with an id of 64 hex digits", s)
		}
		if height == 0 && id != g.State().ID {
			return nil, usageError("", "--checkpoint %.100q: block 0 of %s is %s", s, g, g.State().ID)
		}
		if other, ok := out[height]; ok && other != id {
			return nil, usageError("", "--checkpoint names two blocks at height %d", height)
		}
		if out == nil {
			out = map[uint64]chain.BlockID{}
		}
		out[height] = id
	}
	return out, nil
}
