package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"quipu/chain"
	"quipu/wallet"
)

// walletDirs are the directories of wallets, first the one a name is looked up in first. A running test network's
// stand before the own ones while its node is the one being asked.
func (a *app) walletDirs() ([]string, error) {
	own, err := walletDir()
	if err != nil {
		return nil, err
	}
	if t, ok := a.found(); ok && t.Wallets != "" {
		return []string{t.Wallets, own}, nil
	}
	return []string{own}, nil
}

// findWallet is the wallet of this name. With a network it must be of that network.
func (a *app) findWallet(name string, g *chain.Genesis) (string, wallet.Info, error) {
	if err := wallet.CheckName(name); err != nil {
		return "", wallet.Info{}, err
	}
	dirs, err := a.walletDirs()
	if err != nil {
		return "", wallet.Info{}, err
	}
	var first error
	for _, dir := range dirs {
		path := wallet.Path(dir, name)
		info, err := wallet.Inspect(path)
		if err == nil && g != nil {
			err = info.CheckNetwork(g)
		}
		if err == nil {
			return path, info, nil
		}
		if first == nil || errors.Is(first, wallet.ErrNotFound) {
			first = err
		}
	}
	if errors.Is(first, wallet.ErrNotFound) {
		return "", wallet.Info{}, fail(exitNotFound, "quipu wallet list\nquipu wallet new "+name, "there is no wallet %s in %s", name, strings.Join(dirs, " or "))
	}
	return "", wallet.Info{}, first
}

// allWallets lists the wallets of all directories, of one network if g is given. Those that can't be used come too,
// with their error, unless a network is asked for.
func (a *app) allWallets(g *chain.Genesis) ([]wallet.Entry, error) {
	dirs, err := a.walletDirs()
	if err != nil {
		return nil, err
	}
	var out []wallet.Entry
	for _, dir := range dirs {
		list, err := wallet.List(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if g == nil || e.Err == nil && e.Info.NetworkID == g.NetworkID() {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// payer is the wallet to pay from: --wallet, then QUIPU_WALLET, then alice of a running test network, then the only
// one of this network.
func (a *app) payer(flag string, g *chain.Genesis) (string, wallet.Info, error) {
	if flag == "" {
		flag = os.Getenv("QUIPU_WALLET")
	}
	if flag != "" {
		return a.findWallet(flag, g)
	}
	list, err := a.allWallets(g)
	if err != nil {
		return "", wallet.Info{}, err
	}
	if t, ok := a.found(); ok {
		for _, e := range list {
			if e.Path == wallet.Path(t.Wallets, "alice") {
				return e.Path, e.Info, nil
			}
		}
	}
	switch len(list) {
	case 1:
		return list[0].Path, list[0].Info, nil
	case 0:
		return "", wallet.Info{}, fail(exitNotFound, "quipu wallet new NAME", "there is no wallet for %s", g)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Info.Name
	}
	return "", wallet.Info{}, usageError("add --wallet "+names[0], "there are %d wallets for %s, say which one pays: %s", len(list), g, strings.Join(names, ", "))
}

// recipient reads an address or a wallet's name. An address never is a valid name of a wallet with the same text:
// what begins like an address of some network and isn't one of this is refused.
func (a *app) recipient(s string, g *chain.Genesis) (to chain.Account, label string, err error) {
	account, addrErr := chain.DecodeAddress(g.Prefix, s)
	if addrErr == nil {
		return account, "", nil
	}
	looksLike := len(s) > 40 || strings.HasPrefix(strings.ToLower(s), g.Prefix+"1")
	if looksLike || wallet.CheckName(s) != nil {
		return account, "", usageError("", "%w", addrErr)
	}
	_, info, err := a.findWallet(s, g)
	if err != nil {
		var e *exitError
		if errors.As(err, &e) && e.code == exitNotFound {
			return account, "", fail(exitNotFound, "quipu wallet list", "%q is neither an address of %s nor the name of a wallet here", s, g)
		}
		return account, "", err
	}
	account, err = chain.DecodeAddress(g.Prefix, info.Address)
	if err != nil {
		return account, "", fmt.Errorf("wallet %s: %w", s, err)
	}
	return account, info.Name, nil
}
