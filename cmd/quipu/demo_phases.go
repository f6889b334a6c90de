package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"quipu/chain"
	"quipu/rpc"
	"quipu/testnet"
)

// demoPhases are the parts of the tour, in order. Blocks come at random, once a second on average: the deadlines are
// what less than one run in some thousands needs on a machine that is not overloaded.
var demoPhases = []struct {
	name     string
	deadline time.Duration
	run      func(*demo, context.Context) error
}{
	{"Payment", 20 * time.Second, (*demo).payment},
	{"Crash", 25 * time.Second, (*demo).crash},
	{"Attack", 20 * time.Second, (*demo).attack},
	{"Partition", 35 * time.Second, (*demo).partition},
}

const confirmed = rpc.DefaultConfirmations

// gather asks nodes at once. The error is the first in the order of nodes.
func gather[T any](d *demo, nodes []string, ask func(c *rpc.Client) (T, error)) ([]T, error) {
	out, errs := make([]T, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			c := d.net.Client(n)
			c.Timeout = 2 * time.Second
			out[i], errs[i] = ask(c)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nodes[i], err)
		}
	}
	return out, nil
}

func (d *demo) statuses(ctx context.Context, nodes []string) ([]rpc.NodeStatus, error) {
	return gather(d, nodes, func(c *rpc.Client) (rpc.NodeStatus, error) { return c.NodeStatus(ctx) })
}

func (d *demo) txStatuses(ctx context.Context, nodes []string, id chain.TxID) ([]rpc.TxStatus, error) {
	return gather(d, nodes, func(c *rpc.Client) (rpc.TxStatus, error) { return c.TxStatus(ctx, rpc.TxStatusParams{TxID: id}) })
}

// agree is how every phase ends: all nodes report one tip and one state root.
func (d *demo) agree(ctx context.Context) error {
	var tip rpc.BlockRef
	var root chain.Hash
	err := d.holds(ctx, "agreed", "all nodes report the same tip and state root", func(ctx context.Context) (string, bool) {
		list, err := d.statuses(ctx, demoNodes)
		if err != nil {
			return err.Error(), false
		}
		tips := map[chain.BlockID][]string{}
		for i, s := range list {
			tips[s.Tip.ID] = append(tips[s.Tip.ID], fmt.Sprintf("%s at %d", demoNodes[i], s.Tip.Height))
			if s.Tip.ID == list[0].Tip.ID && s.StateRoot != list[0].StateRoot {
				return fmt.Sprintf("%s and node-1 have other state roots for tip %s", demoNodes[i], s.Tip.ID), false
			}
		}
		tip, root = list[0].Tip, list[0].StateRoot
		if len(tips) > 1 {
			return fmt.Sprintf("%d tips: %v", len(tips), tips), false
		}
		return fmt.Sprintf("%s on tip %d = %s, state %s", all(len(list)), tip.Height, brief(tip.ID.String()), brief(root.String())), true
	})
	d.now.Height, d.now.Tip, d.now.StateRoot = tip.Height, &tip.ID, &root
	return err
}

// all is "5 of 5 nodes".
func all(n int) string { return fmt.Sprintf("%d of %d nodes", n, n) }

func brief(id string) string { return id[:8] }

// title opens a phase with what it is about.
func (d *demo) title(text string) { d.line("%-12s  %s\n", d.now.Name, text) }

func (d *demo) pay(ctx context.Context, from, to string, qpu uint64, node string) (chain.TxID, error) {
	id, err := testnet.Pay(ctx, d.g, d.net.Wallets(), from, d.accounts[to], qpu*chain.Knots, d.net.Client(node))
	if err != nil {
		return id, fmt.Errorf("paying %d QPU from %s to %s over %s: %w", qpu, from, to, node, err)
	}
	d.net.Note("pay", node, fmt.Sprintf("%s → %s %d QPU", from, to, qpu))
	return id, nil
}

// placed waits until the nodes name one and the same block for a transaction, at least so deep on each of them.
func (d *demo) placed(ctx context.Context, label, check string, nodes []string, id chain.TxID, depth uint64) (rpc.TxStatus, error) {
	var at rpc.TxStatus
	err := d.holds(ctx, label, check, func(ctx context.Context) (string, bool) {
		list, err := d.txStatuses(ctx, nodes, id)
		if err != nil {
			return err.Error(), false
		}
		var deep []string
		for i, s := range list {
			if s.State != rpc.TxIncluded || s.Block == nil || s.Confirmations < depth || *s.Block != *list[0].Block {
				return fmt.Sprintf("%s says %s, %d confirmations", nodes[i], s.State, s.Confirmations), false
			}
			deep = append(deep, fmt.Sprintf("%s:%d", strings.TrimPrefix(nodes[i], "node-"), s.Confirmations))
		}
		at = list[0]
		if depth == 1 {
			return fmt.Sprintf("%d = %s, the same on %s", at.Height, brief(at.Block.String()), all(len(nodes))), true
		}
		return fmt.Sprintf("block %d = %s; confirmations by node %s", at.Height, brief(at.Block.String()), strings.Join(deep, " ")), true
	})
	return at, err
}

// payment: alice pays bob; every node verifies by itself; a block has it; all confirm it.
func (d *demo) payment(ctx context.Context) error {
	before, err := d.statuses(ctx, demoNodes)
	if err != nil {
		return err
	}
	id, err := d.pay(ctx, "alice", "bob", 25, "node-1")
	if err != nil {
		return err
	}
	d.title("alice → bob 25 QPU   " + id.String())
	d.row("broadcast", "node-1", false)
	err = d.holds(ctx, "verified", "every node verified the payment by itself", func(ctx context.Context) (string, bool) {
		list, err := d.txStatuses(ctx, demoNodes, id)
		if err != nil {
			return err.Error(), false
		}
		for i, s := range list {
			if !s.ThisNode.Verified {
				return demoNodes[i] + " has not verified it", false
			}
		}
		return all(len(list)) + ", each by itself" + d.verifiedWhen(ctx, before, id), true
	})
	if err != nil {
		return err
	}
	if _, err := d.placed(ctx, "in block", "one block holds the payment on every node", demoNodes, id, 1); err != nil {
		return err
	}
	at, err := d.placed(ctx, "confirmed", "every node names the block and its confirmations", demoNodes, id, confirmed)
	if err != nil {
		return err
	}
	d.row("", "made by "+d.maker(ctx, at), false)
	return d.holds(ctx, "balance", "bob has 1025 QPU on every node", func(ctx context.Context) (string, bool) {
		list, err := gather(d, demoNodes, func(c *rpc.Client) (rpc.Account, error) { return c.AccountGet(ctx, d.accounts["bob"]) })
		if err != nil {
			return err.Error(), false
		}
		for i, a := range list {
			if uint64(a.Balance) != 1025*chain.Knots {
				return fmt.Sprintf("%s says %d knots", demoNodes[i], a.Balance), false
			}
		}
		return "bob has 1025 QPU on " + all(len(list)), true
	})
}

// verifiedWhen tells from the nodes' own events how long verifying took and how the payment spread. One machine, one
// clock.
func (d *demo) verifiedWhen(ctx context.Context, before []rpc.NodeStatus, id chain.TxID) string {
	var first, last time.Time
	var least, most uint64
	n := 0
	for i, node := range demoNodes {
		list, err := d.net.Client(node).EventsSince(ctx, before[i].EventSeq, rpc.MaxList)
		if err != nil {
			return ""
		}
		k := slices.IndexFunc(list.Events, func(e rpc.Event) bool { return e.Kind == "tx.verified" && e.ID == id.String() })
		if k < 0 {
			continue
		}
		e := list.Events[k]
		if n == 0 || e.Time.Before(first) {
			first = e.Time
		}
		if n == 0 || e.Time.After(last) {
			last = e.Time
		}
		if n == 0 || e.TookUS < least {
			least = e.TookUS
		}
		n, most = n+1, max(most, e.TookUS)
	}
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d–%d µs), within %s", least, most, ago(last.Sub(first)))
}

// maker names the node whose miner a block pays.
func (d *demo) maker(ctx context.Context, at rpc.TxStatus) string {
	b, err := d.net.Client("node-1").ChainBlock(ctx, rpc.ChainBlockParams{ID: at.Block})
	if err != nil {
		return "unknown"
	}
	for _, n := range d.net.State(ctx).Nodes {
		if n.Miner == b.Header.MinerAddress {
			return n.Name
		}
	}
	return b.Header.MinerAddress
}

// crash: a node is killed; the others go on and confirm a payment; it comes back and catches up.
func (d *demo) crash(ctx context.Context) error {
	const victim = "node-3"
	others := slices.DeleteFunc(slices.Clone(demoNodes), func(n string) bool { return n == victim })
	before, err := d.net.Client(victim).NodeStatus(ctx)
	if err != nil {
		return err
	}
	if _, err := d.net.Kill(victim); err != nil {
		return err
	}
	d.title(fmt.Sprintf("%s killed (SIGKILL) at height %d; 4 nodes left", victim, before.Tip.Height))
	id, err := d.pay(ctx, "bob", "carol", 5, "node-1")
	if err != nil {
		return err
	}
	if _, err := d.placed(ctx, "confirmed", "bob → carol 5 QPU confirms on the four nodes left", others, id, confirmed); err != nil {
		return err
	}
	var goal rpc.BlockRef
	err = d.holds(ctx, "went on", "the four nodes left agree on at least 3 further blocks", func(ctx context.Context) (string, bool) {
		list, err := d.statuses(ctx, others)
		if err != nil {
			return err.Error(), false
		}
		goal = list[0].Tip
		for i, s := range list {
			if s.Tip.ID != goal.ID || s.Tip.Height < before.Tip.Height+3 {
				return fmt.Sprintf("%s is at %d = %s", others[i], s.Tip.Height, brief(s.Tip.ID.String())), false
			}
		}
		return fmt.Sprintf("blocks %d to %d without %s", before.Tip.Height+1, goal.Height, victim), true
	})
	if err != nil {
		return err
	}
	restart := time.Now()
	if _, err := d.net.Start(ctx, victim); err != nil {
		return err
	}
	d.row("restarted", victim+" on the data it left", false)
	c := d.net.Client(victim)
	err = d.holds(ctx, "caught up", victim+" has the others' blocks, from two peers or more, verified by itself", func(ctx context.Context) (string, bool) {
		b, err := c.ChainBlock(ctx, rpc.ChainBlockParams{ID: &goal.ID})
		if err != nil || !b.OnBest || !b.Validated {
			return fmt.Sprintf("block %d is not on its best chain yet", goal.Height), false
		}
		peers, err := c.PeerList(ctx)
		if err != nil {
			return err.Error(), false
		}
		var from []string
		for _, p := range peers.Peers {
			if p.Bodies > 0 {
				from = append(from, fmt.Sprint(p.Bodies))
			}
		}
		if len(peers.Peers) < len(others) {
			return fmt.Sprintf("it has %d peers", len(peers.Peers)), false
		}
		return fmt.Sprintf("to %d in %s; bodies from %d of %d peers (%s)", goal.Height, ago(time.Since(restart)), len(from),
			len(peers.Peers), strings.Join(from, "+")), len(from) >= 2
	})
	if err != nil {
		return err
	}
	_, err = d.placed(ctx, "known there", "the payment it missed is confirmed on it as well", demoNodes, id, confirmed)
	return err
}

// attack: two liars join and are refused and banned; the chain doesn't care.
func (d *demo) attack(ctx context.Context) error {
	before, err := d.statuses(ctx, demoNodes)
	if err != nil {
		return err
	}
	var liars []testnet.Node
	for _, kind := range testnet.BadKinds {
		n, err := d.net.Add(ctx, kind)
		if err != nil {
			return err
		}
		liars = append(liars, n)
		if len(liars) == 1 {
			d.title(fmt.Sprintf("%s joins (forged signatures); then a peer with an invalid block as its tip", n.Name))
		}
		what := map[string]string{"bad-signature": "forgeries", "bad-block": "stolen coins"}[kind]
		err = d.holds(ctx, "banned", fmt.Sprintf("%s (%s) is banned by every node", n.Name, kind), func(ctx context.Context) (string, bool) {
			list, err := gather(d, demoNodes, func(c *rpc.Client) (rpc.PeerBans, error) { return c.PeerBans(ctx) })
			if err != nil {
				return err.Error(), false
			}
			reasons := map[string]int{}
			for i, b := range list {
				k := slices.IndexFunc(b.Bans, func(b rpc.Ban) bool { return b.ID == n.PeerID })
				if k < 0 {
					return demoNodes[i] + " has not banned it", false
				}
				reasons[b.Bans[k].Reason]++
			}
			d.net.Note("ban", n.Name, n.Name+" banned by "+all(len(list)))
			return fmt.Sprintf("%s refused; %s banned by %s (%s)", what, n.Name, all(len(list)), counted(reasons)), true
		})
		if err != nil {
			return err
		}
	}
	return d.holds(ctx, "unaffected", "blocks go on, and no node banned an honest one", func(ctx context.Context) (string, bool) {
		list, err := d.statuses(ctx, demoNodes)
		if err != nil {
			return err.Error(), false
		}
		for i, s := range list {
			if s.Bans != len(liars) {
				return fmt.Sprintf("%s bans %d peers", demoNodes[i], s.Bans), false
			}
			if n := s.Peers.In + s.Peers.Out; n < len(demoNodes)-1 {
				return fmt.Sprintf("%s has %d peers", demoNodes[i], n), false
			}
			if s.Tip.Height <= before[i].Tip.Height {
				return fmt.Sprintf("%s is still at %d", demoNodes[i], s.Tip.Height), false
			}
			if b, err := d.net.Client(demoNodes[i]).ChainBlock(ctx, rpc.ChainBlockParams{ID: &before[i].Tip.ID}); err != nil || !b.Validated {
				return fmt.Sprintf("%s forgot block %d", demoNodes[i], before[i].Tip.Height), false
			}
		}
		return fmt.Sprintf("height %d → %d, all honest nodes still connected", before[0].Tip.Height, list[0].Tip.Height), true
	})
}

// counted writes reasons with how often each was given.
func counted(reasons map[string]int) string {
	var out []string
	for r, n := range reasons {
		out = append(out, fmt.Sprintf("%s ×%d", r, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// side is one half of the cut network, with a payment made on it.
type side struct {
	name     string
	nodes    []string
	from, to string
	qpu      uint64
	id       chain.TxID
	block    chain.BlockID // that held the payment before the network was whole again
	height   uint64
	tip      rpc.BlockRef
	work     string
}

// partition: two sides part, with a payment on each; healed, one branch wins and the other's payment confirms on it.
func (d *demo) partition(ctx context.Context) error {
	sides := []*side{
		{name: "A", nodes: demoNodes[:2], from: "alice", to: "carol", qpu: 7},
		{name: "B", nodes: demoNodes[2:], from: "dave", to: "bob", qpu: 9},
	}
	if _, err := d.net.Partition(ctx, "1,2/3,4,5"); err != nil {
		return err
	}
	d.title("{node-1 node-2} | {node-3 node-4 node-5}: 6 links cut")
	err := d.holds(ctx, "cut", "no node has a peer on the other side", func(ctx context.Context) (string, bool) {
		for _, s := range sides {
			list, err := d.statuses(ctx, s.nodes)
			if err != nil {
				return err.Error(), false
			}
			for i, st := range list {
				if n := st.Peers.In + st.Peers.Out; n != len(s.nodes)-1 {
					return fmt.Sprintf("%s has %d peers", s.nodes[i], n), false
				}
			}
		}
		return "each node sees its own side alone", true
	})
	if err != nil {
		return err
	}
	for _, s := range sides {
		if s.id, err = d.pay(ctx, s.from, s.to, s.qpu, s.nodes[0]); err != nil {
			return err
		}
	}
	if err := d.parted(ctx, sides); err != nil {
		return err
	}
	if _, err := d.net.Heal(ctx); err != nil {
		return err
	}
	d.row("healed", "6 links joined", false)
	winner, loser, err := d.won(ctx, sides)
	if err != nil {
		return err
	}
	at, err := d.placed(ctx, "confirmed", "the losing side's payment is confirmed in another block", demoNodes, loser.id, confirmed)
	if err != nil {
		return err
	}
	if *at.Block == loser.block {
		return &checkError{d.now.Name, "the losing side's payment is confirmed in another block", "it is still in block " + loser.block.String()}
	}
	_, err = d.placed(ctx, "kept", "the winning side's payment stands", demoNodes, winner.id, confirmed)
	return err
}

// parted waits until each side has its payment in a block of its own and the branches differ in work, so that one will
// win whatever the order of messages.
func (d *demo) parted(ctx context.Context, sides []*side) error {
	return d.holds(ctx, "parted", "two branches, each with a payment of its own", func(ctx context.Context) (string, bool) {
		for _, s := range sides {
			txs, err := d.txStatuses(ctx, s.nodes, s.id)
			if err != nil {
				return err.Error(), false
			}
			for i, t := range txs {
				if t.State != rpc.TxIncluded || t.Block == nil || *t.Block != *txs[0].Block {
					return fmt.Sprintf("side %s: %s says %s", s.name, s.nodes[i], t.State), false
				}
			}
			s.block, s.height = *txs[0].Block, txs[0].Height
			list, err := d.statuses(ctx, s.nodes)
			if err != nil {
				return err.Error(), false
			}
			for _, st := range list {
				if st.Tip.ID != list[0].Tip.ID {
					return "side " + s.name + " has no common tip", false
				}
			}
			s.tip, s.work = list[0].Tip, list[0].Work
		}
		a, b := sides[0], sides[1]
		if a.work == b.work {
			return "both branches have the same work", false
		}
		return fmt.Sprintf("tip A %d = %s, tip B %d = %s", a.tip.Height, brief(a.tip.ID.String()), b.tip.Height, brief(b.tip.ID.String())), true
	})
}

// won waits until all nodes follow one branch, and says which: the other's payment is back in the pool or, by now, in a
// block of the winning branch.
func (d *demo) won(ctx context.Context, sides []*side) (winner, loser *side, err error) {
	err = d.holds(ctx, "one wins", "all nodes leave one branch for the other", func(ctx context.Context) (string, bool) {
		var on [2]bool
		for i, s := range sides {
			list, err := gather(d, demoNodes, func(c *rpc.Client) (rpc.ChainBlock, error) {
				return c.ChainBlock(ctx, rpc.ChainBlockParams{ID: &s.block})
			})
			if err != nil {
				if rpc.Is(err, rpc.NameNotFound) {
					continue // a node of the winning side needs no header of the losing one
				}
				return err.Error(), false
			}
			on[i] = true
			for _, b := range list {
				on[i] = on[i] && b.OnBest && b.Validated
			}
		}
		if on[0] == on[1] {
			return "the nodes follow two branches", false
		}
		winner, loser = sides[0], sides[1]
		if on[1] {
			winner, loser = loser, winner
		}
		b, err := d.net.Client(loser.nodes[0]).ChainBlock(ctx, rpc.ChainBlockParams{ID: &loser.block})
		if err != nil || b.OnBest {
			return "the losing side has not left its branch", false
		}
		t, err := d.net.Client(loser.nodes[0]).TxStatus(ctx, rpc.TxStatusParams{TxID: loser.id})
		if err != nil {
			return err.Error(), false
		}
		where := "is back in the pool"
		if t.State == rpc.TxIncluded {
			where = fmt.Sprintf("was in the pool again and is in block %d", t.Height)
		} else if t.State != rpc.TxPending {
			return fmt.Sprintf("%s says %s of the losing side's payment", loser.nodes[0], t.State), false
		}
		return fmt.Sprintf("side %s; %s → %s %d QPU left block %d and %s", winner.name, loser.from, loser.to, loser.qpu, loser.height, where), true
	})
	return winner, loser, err
}
