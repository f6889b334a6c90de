package testnet

import (
	"context"
	"slices"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

// Faucet pays from dave to an address or a label and hands the transaction to the first node that is up.
func (s *Supervisor) Faucet(ctx context.Context, p FaucetParams) (Paid, error) {
	s.ops.Lock() // two payments at once would take the same nonce
	defer s.ops.Unlock()
	if err := s.open(); err != nil {
		return Paid{}, err
	}
	nodes := s.running()
	if len(nodes) == 0 {
		return Paid{}, rpc.Errorf(rpc.NameRefused, "quipu testnet start 1", "no node of %s is up", s.cfg.Name)
	}
	address := p.To
	if i := slices.IndexFunc(s.accounts, func(a Labelled) bool { return a.Label == p.To }); i >= 0 {
		address = s.accounts[i].Address
	}
	to, err := chain.DecodeAddress(s.g.Prefix, address)
	if err != nil {
		return Paid{}, rpc.Errorf(rpc.NameInvalidParams, "", "%.100q is neither a label of %s nor an address: %v", p.To, s.cfg.Name, err)
	}
	id, err := Pay(ctx, s.g, s.Wallets(), faucetLabel, to, uint64(p.Amount), nodes[0].client())
	if err != nil {
		return Paid{}, err
	}
	s.Note("pay", "", "faucet: "+wallet.FormatAmount(uint64(p.Amount))+" QPU to "+p.To)
	return Paid{TxID: id, From: faucetLabel, To: address, Amount: p.Amount, Node: nodes[0].name}, nil
}

// Pay signs a payment with a test network's wallet, by label, and hands it to a node.
func Pay(ctx context.Context, g *chain.Genesis, wallets, label string, to chain.Account, amount uint64, c *rpc.Client) (chain.TxID, error) {
	w, err := wallet.Open(wallet.Path(wallets, label), nil)
	if err != nil {
		return chain.TxID{}, err
	}
	defer w.Close()
	from, err := w.Account(0)
	if err != nil {
		return chain.TxID{}, err
	}
	acc, err := c.AccountGet(ctx, from)
	if err != nil {
		return chain.TxID{}, err
	}
	tx, err := wallet.Build(g, wallet.Payment{
		From: from, Nonce: uint64(acc.NextNonce), Outputs: []chain.Output{{To: to, Amount: amount}},
	})
	if err != nil {
		return chain.TxID{}, rpc.Errorf(rpc.NameInvalidParams, "", "%v", err)
	}
	if err := w.Sign(0, &tx); err != nil {
		return chain.TxID{}, err
	}
	sent, err := c.TxSubmit(ctx, tx.Append(nil))
	return sent.TxID, err
}

// Add starts one more member: an honest node, or with bad set a liar of that kind that dials every honest node.
func (s *Supervisor) Add(ctx context.Context, bad string) (Node, error) {
	s.ops.Lock()
	defer s.ops.Unlock()
	defer s.changed.Store(true)
	if err := s.open(); err != nil {
		return Node{}, err
	}
	kind := Honest
	if bad != "" {
		kind = bad
		if !slices.Contains(BadKinds, bad) {
			return Node{}, rpc.Errorf(rpc.NameInvalidParams, "", "bad peer %.40q: want one of %v", bad, BadKinds)
		}
	}
	s.mu.Lock()
	n, cut := len(s.members)+1, s.cut != nil
	s.mu.Unlock()
	if n > MaxNodes {
		return Node{}, rpc.Errorf(rpc.NameRefused, "", "%s has %d members, the most there may be", s.cfg.Name, MaxNodes)
	}
	if cut && kind == Honest {
		return Node{}, rpc.Errorf(rpc.NameRefused, "quipu testnet heal", "%s is partitioned: a new node would join the sides", s.cfg.Name)
	}
	if kind == Honest {
		defer lockPorts()()
	}
	s.mu.Lock()
	m, err := s.newMember(n, kind)
	if err == nil && kind == Honest {
		ports := s.morePorts()
		m.p2pPort, m.httpPort, err = ports.pair()
		s.ports = append(s.ports, ports.taken...)
	}
	if err != nil {
		s.members = s.members[:n-1]
		s.mu.Unlock()
		return Node{}, err
	}
	bootstrap := s.bootstrap(m)
	s.mu.Unlock()
	if err = s.launch(m, bootstrap); err == nil {
		err = s.await(ctx, m)
	}
	if err != nil {
		return Node{}, err
	}
	s.Note("add", m.name, m.name+" added ("+kind+")")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.describe(m), nil
}

// BadKinds are the liars a test network can hold; package p2p/badpeer is what they do.
var BadKinds = []string{"bad-signature", "bad-block"}

// Env is how to talk to one node; "" is the first that is up, or node-1 if none is.
func (s *Supervisor) Env(name string) (Env, error) {
	var m *member
	if name != "" {
		var err error
		if m, err = s.find(name); err != nil {
			return Env{}, err
		}
	} else {
		s.mu.Lock()
		m = s.members[0]
		s.mu.Unlock()
		if up := s.running(); len(up) > 0 {
			m = up[0]
		}
	}
	if m.kind != Honest {
		return Env{}, rpc.Errorf(rpc.NameRefused, "", "%s is a bad peer and has no API", m.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return Env{
		Name: s.cfg.Name, Node: m.name, RPC: m.url(), TokenFile: m.tokenFile(), DataDir: m.dir, Wallets: s.Wallets(),
		Genesis: s.genesisFile(),
	}, nil
}
