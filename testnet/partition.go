package testnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"quipu/rpc"
)

// ParseSides reads who can talk to whom: sides parted by '/', nodes by ','; 3 and node-3 mean the same. Each of nodes
// stands on exactly one of two or more sides.
func ParseSides(text string, nodes []int) ([][]int, error) {
	bad := func(format string, args ...any) ([][]int, error) {
		return nil, fmt.Errorf("sides %.60q: %s; write them like 1,2/3,4,5", text, fmt.Sprintf(format, args...))
	}
	seen := map[int]bool{}
	var sides [][]int
	for part := range strings.SplitSeq(text, "/") {
		var side []int
		for word := range strings.SplitSeq(part, ",") {
			k, err := ParseNode(word)
			if err != nil {
				return bad("%v", err)
			}
			if !slices.Contains(nodes, k) {
				return bad("there is no honest node-%d", k)
			}
			if seen[k] {
				return bad("node-%d stands twice", k)
			}
			seen[k] = true
			side = append(side, k)
		}
		sides = append(sides, side)
	}
	if left := slices.DeleteFunc(slices.Clone(nodes), func(k int) bool { return seen[k] }); len(left) > 0 {
		return nil, fmt.Errorf("sides %.60q: each node stands on one side, and %s on none; perhaps %s", text, names(left), sidesText(sides, left))
	}
	if len(sides) < 2 {
		return bad("one side is no partition")
	}
	return sides, nil
}

// names is "node-4 and node-5 stand".
func names(nodes []int) string {
	words := make([]string, len(nodes))
	for i, k := range nodes {
		words[i] = nodeName(k)
	}
	if len(words) == 1 {
		return words[0] + " stands"
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last] + " stand"
}

// sidesText writes sides as ParseSides reads them, with the nodes left on the last one, or on a second one if there is
// one only.
func sidesText(sides [][]int, left []int) string {
	all := slices.Clone(sides)
	if last := len(all) - 1; last > 0 {
		all[last] = append(slices.Clone(all[last]), left...)
	} else {
		all = append(all, left)
	}
	out := make([]string, len(all))
	for i, side := range all {
		words := make([]string, len(side))
		for j, k := range side {
			words[j] = strconv.Itoa(k)
		}
		out[i] = strings.Join(words, ",")
	}
	return strings.Join(out, "/")
}

// ParseNode reads "3" or "node-3".
func ParseNode(text string) (int, error) {
	word := strings.TrimPrefix(strings.TrimSpace(text), "node-")
	k, err := strconv.Atoi(word)
	if err != nil || k < 1 || strconv.Itoa(k) != word {
		return 0, fmt.Errorf("%.40q is no node: want 3 or node-3", text)
	}
	return k, nil
}

// Partition lets each node talk to its own side only: every node refuses the peers of all other sides, by its
// connection gater. Bad peers are on no side. A partition replaces the one before.
func (s *Supervisor) Partition(ctx context.Context, text string) (Partitioned, error) {
	s.ops.Lock()
	defer s.ops.Unlock()
	defer s.changed.Store(true)
	if err := s.open(); err != nil {
		return Partitioned{}, err
	}
	s.mu.Lock()
	var honest []int
	for _, m := range s.members {
		if m.kind == Honest {
			honest = append(honest, m.num)
		}
	}
	sides, err := ParseSides(text, honest)
	if err != nil {
		s.mu.Unlock()
		return Partitioned{}, rpc.Errorf(rpc.NameInvalidParams, "", "%v", err)
	}
	out := Partitioned{}
	for _, m := range s.members {
		m.side = 0
	}
	for i, side := range sides {
		var names []string
		for _, k := range side {
			s.members[k-1].side = i + 1
			names = append(names, nodeName(k))
		}
		out.Sides = append(out.Sides, names)
		for _, other := range sides[:i] {
			out.Links += len(side) * len(other)
		}
	}
	now := time.Now().UTC()
	s.sides, s.cut = out.Sides, &now
	s.mu.Unlock()
	s.Note("partition", "", "partitioned: "+text)
	return out, s.gateAll(ctx)
}

// Heal opens every gate and connects each node with each again.
func (s *Supervisor) Heal(ctx context.Context) (Partitioned, error) {
	s.ops.Lock()
	defer s.ops.Unlock()
	defer s.changed.Store(true)
	if err := s.open(); err != nil {
		return Partitioned{}, err
	}
	s.mu.Lock()
	out := Partitioned{Sides: s.sides}
	var pairs [][2]*member
	for i, a := range s.members {
		for _, b := range s.members[:i] {
			if a.side != b.side && a.side > 0 && b.side > 0 {
				out.Links++
				pairs = append(pairs, [2]*member{a, b})
			}
		}
	}
	for _, m := range s.members {
		m.side = 0
	}
	s.sides, s.cut = nil, nil
	s.mu.Unlock()
	if len(out.Sides) > 0 {
		s.Note("heal", "", "healed")
	}
	if err := s.gateAll(ctx); err != nil {
		return out, err
	}
	return out, s.connect(ctx, pairs)
}

// gateAll tells every node that is up whom to refuse.
func (s *Supervisor) gateAll(ctx context.Context) error {
	return each(s.running(), func(m *member) error { return s.gate(ctx, m) })
}

// gate tells one node whom to refuse: every node on another side.
func (s *Supervisor) gate(ctx context.Context, m *member) error {
	block := []string{}
	s.mu.Lock()
	for _, o := range s.members {
		if o.side != m.side && o.side > 0 && m.side > 0 && o.peerID != "" {
			block = append(block, o.peerID)
		}
	}
	s.mu.Unlock()
	if _, err := m.client().AdminGate(ctx, block); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}

// connect has the first of each pair dial the second, if both are up.
func (s *Supervisor) connect(ctx context.Context, pairs [][2]*member) error {
	return each(pairs, func(p [2]*member) error {
		s.mu.Lock()
		both := p[0].state() == Up && p[1].state() == Up
		addr := p[1].address()
		s.mu.Unlock()
		if !both || addr == "" {
			return nil
		}
		if _, err := p[0].client().AdminConnect(ctx, addr); err != nil {
			// Two that dial each other at the same moment may lose one attempt; the nodes go on dialling by themselves.
			s.cfg.Log.Info("connect", "from", p[0].name, "to", p[1].name, "err", err)
		}
		return nil
	})
}

// each runs f for all at once, waits for all, and joins their errors.
func each[T any](list []T, f func(T) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, v := range list {
		wg.Go(func() { errs[i] = f(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
