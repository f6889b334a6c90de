package testnet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/wallet"
)

// Constants of every test network (docs/spec.md §6 gives their meaning).
const (
	prefix      = "tqp"
	limitBits   = 0x207fffff // half of all ids: what regression tests of Bitcoin use
	bodyLimit   = 1 << 20
	halfLives   = 144 // half_life, in spacings
	subsidy     = 50 * chain.Knots
	halving     = 1_000_000
	fundEach    = 1_000 * chain.Knots
	fundFaucet  = 1_000_000 * chain.Knots
	mnemonicLen = 128 // bits of entropy: 12 words
)

// bitsFor makes blocks come once a spacing when hashes a second are tried in all: a target of 2^256/(hashes·spacing).
func bitsFor(hashes float64, spacing time.Duration) uint32 {
	work := uint64(max(hashes*spacing.Seconds(), 2))
	var target uint256.Int
	target.SetAllOne()
	target.Div(&target, uint256.NewInt(work))
	return chain.ToBits(&target)
}

// newGenesis is the genesis of a test network: spacing 1 s, prefix tqp, no price of accounts, bits that fit the rate of
// all nodes together.
func newGenesis(name string, now time.Time, hashes float64, limit uint32, balances []chain.GenesisBalance) (*chain.Genesis, error) {
	return chain.NewGenesis(chain.Genesis{
		Name: name, Prefix: prefix, Time: uint64(now.UnixMilli()), Spacing: spacing.Milliseconds(),
		HalfLife: halfLives * spacing.Milliseconds(), Bits: bitsFor(hashes, spacing), LimitBits: limitBits,
		BodyLimit: limit, Subsidy: subsidy, Halving: halving, MinFeeRate: 1, Balances: balances,
	})
}

// makeNetwork writes genesis.json and the wallets of a new network below its directory: the funded labels from random words
// each, and one for each node's mining. Wallet files have no passphrase: the network is a throw-away.
func makeNetwork(cfg *Config) (*chain.Genesis, error) {
	dir, words := cfg.Dir, map[string]string{}
	balances := slices.Clone(cfg.Balances)
	for _, label := range Labels {
		entropy, err := wallet.NewEntropy(mnemonicLen)
		if err != nil {
			return nil, err
		}
		if words[label], err = wallet.EncodeMnemonic(entropy); err != nil {
			return nil, err
		}
		a, err := firstAccount(dir, words[label])
		if err != nil {
			return nil, err
		}
		amount := uint64(fundEach)
		if label == faucetLabel {
			amount = fundFaucet
		}
		balances = append(balances, chain.GenesisBalance{Account: a, Balance: amount})
	}
	g, err := newGenesis(cfg.Name, time.Now(), float64(cfg.Miners)*cfg.MineRate, cfg.BodyLimit, balances)
	if err != nil {
		return nil, err
	}
	o := wallet.Options{Genesis: g, KDF: wallet.LightKDF, NoPassphrase: true}
	for _, label := range Labels {
		w, err := wallet.Restore(wallet.Path(walletsDir(dir), label), o, words[label], nil)
		if err != nil {
			return nil, err
		}
		w.Close()
	}
	for n := 1; n <= cfg.Nodes; n++ {
		if err := makeMinerWallet(dir, g, n); err != nil {
			return nil, err
		}
	}
	return g, os.WriteFile(filepath.Join(dir, "genesis.json"), g.JSON(), 0o600)
}

func makeMinerWallet(dir string, g *chain.Genesis, n int) error {
	o := wallet.Options{Genesis: g, KDF: wallet.LightKDF, NoPassphrase: true}
	w, err := wallet.Create(wallet.Path(walletsDir(dir), nodeName(n)), o, nil)
	if err != nil {
		return err
	}
	w.Close()
	return nil
}

// firstAccount is account 0 of words. The wallet package derives it only for a wallet file, and a wallet file needs
// the genesis that this account is to stand in: so a file for a network without balances is made and removed.
func firstAccount(dir, words string) (chain.Account, error) {
	g, err := newGenesis("none", time.UnixMilli(0), 2, bodyLimit, nil)
	if err != nil {
		return chain.Account{}, err
	}
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return chain.Account{}, err
	}
	defer os.RemoveAll(tmp)
	w, err := wallet.Restore(wallet.Path(tmp, "w"), wallet.Options{Genesis: g, KDF: wallet.LightKDF, NoPassphrase: true}, words, nil)
	if err != nil {
		return chain.Account{}, err
	}
	defer w.Close()
	return w.Account(0)
}

// loadNetwork reads what makeNetwork wrote, to go on with a network that was kept.
func loadNetwork(dir string) (*chain.Genesis, error) {
	text, err := os.ReadFile(filepath.Join(dir, "genesis.json"))
	if err != nil {
		return nil, err
	}
	return chain.ParseGenesis(text)
}

func walletsDir(dir string) string { return filepath.Join(dir, "wallets") }

func nodeName(n int) string { return fmt.Sprintf("node-%d", n) }
