package mempool

import (
	"fmt"

	"quipu/chain"
)

// MinValidity is how many blocks a transaction must still be able to stand in when it is admitted.
const MinValidity = 4

// Config holds the caps. Bytes are encoded bytes; a pooled transaction of 159 bytes takes about 1 kB of memory. A zero
// field means its default.
type Config struct {
	MaxBytes     int // all pending; default 16 MiB: eight full blocks of 2 MiB
	AccountTxs   int // pending of one account, and how far its nonces may run ahead of the tip's; default 1,024
	AccountBytes int // pending of one account; default 1 MiB

	GappedTxs          int // all gapped; default 4,096
	GappedBytes        int // default 1 MiB
	GappedAccountTxs   int // gapped of one account; default 64, as geth's AccountQueue
	GappedAccountBytes int // default 64 KiB
	GappedBlocks       int // blocks a gapped one is kept; default 256

	Fates int // dropped transactions whose reason is remembered; default 4,096
}

// DefaultConfig is the config of a zero Config.
func DefaultConfig() Config { return Config{}.filled() }

// Validate names the first field out of its range.
func (c Config) Validate() error {
	c = c.filled()
	for _, f := range []struct {
		name        string
		value, from int
	}{
		{"MaxBytes", c.MaxBytes, chain.TxMaxSize},
		{"AccountTxs", c.AccountTxs, 1},
		{"AccountBytes", c.AccountBytes, chain.TxMaxSize},
		{"GappedTxs", c.GappedTxs, 1},
		{"GappedBytes", c.GappedBytes, chain.TxMaxSize},
		{"GappedAccountTxs", c.GappedAccountTxs, 1},
		{"GappedAccountBytes", c.GappedAccountBytes, chain.TxMaxSize},
		{"GappedBlocks", c.GappedBlocks, 1},
		{"Fates", c.Fates, 1},
	} {
		if f.value < f.from {
			return fmt.Errorf("mempool: %s is %d, want at least %d", f.name, f.value, f.from)
		}
	}
	if c.AccountBytes > c.MaxBytes {
		return fmt.Errorf("mempool: AccountBytes %d is above MaxBytes %d", c.AccountBytes, c.MaxBytes)
	}
	return nil
}

func (c Config) filled() Config {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.MaxBytes, 16<<20)
	set(&c.AccountTxs, 1024)
	set(&c.AccountBytes, min(1<<20, c.MaxBytes))
	set(&c.GappedTxs, 4096)
	set(&c.GappedBytes, 1<<20)
	set(&c.GappedAccountTxs, 64)
	set(&c.GappedAccountBytes, 64<<10)
	set(&c.GappedBlocks, 256)
	set(&c.Fates, 4096)
	return c
}
