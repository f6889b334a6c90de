package node

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"quipu/chain"
	"quipu/p2p/wire"
)

// maxPoolFile bounds what is read back: the pool's own cap and its lengths.
const maxPoolFile = 128 << 20

// savePool writes what the pool holds beside the ledger, so that a restart loses no transaction. A failure costs
// only that; it is logged.
func (n *Node) savePool() {
	file := n.cfg.path("pool")
	if file == "" {
		return
	}
	if err := writePool(file, append(n.aside, n.pool.Dump()...)); err != nil {
		n.log.Warn("the pool was not saved; its transactions come back from peers", "err", err)
	}
}

func writePool(file string, raws [][]byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".pool-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	for _, raw := range raws {
		if err := wire.WriteFrame(f, raw); err != nil {
			f.Close()
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// loadPool offers a saved pool to AcceptTxs like anything from outside: whatever no longer holds is refused there.
func (n *Node) loadPool() {
	file := n.cfg.path("pool")
	if file == "" {
		return
	}
	f, err := os.Open(file)
	if err != nil {
		return // a first start
	}
	defer f.Close()
	raws, err := readPool(io.LimitReader(f, maxPoolFile))
	if err != nil {
		n.log.Warn("the saved pool is damaged; what could be read is used", "err", err)
	}
	if n.rebuilding.Load() { // they are looked at when the chain has been applied anew
		n.aside = append(n.aside, raws...)
		return
	}
	taken := 0
	for len(raws) > 0 {
		k := min(len(raws), 1000)
		for _, r := range n.AcceptTxs(raws[:k]) {
			if r.Err == nil {
				taken++
			}
		}
		raws = raws[k:]
	}
	n.log.Info("pool loaded", "transactions", taken)
}

func readPool(r io.Reader) ([][]byte, error) {
	var raws [][]byte
	for {
		raw, err := wire.ReadFrame(r, chain.TxMaxSize)
		if err == io.EOF {
			return raws, nil
		}
		if err != nil {
			return raws, fmt.Errorf("entry %d: %w", len(raws), err)
		}
		raws = append(raws, raw)
	}
}
