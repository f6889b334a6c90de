package light

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Errors about what a peer says and doesn't show.
var (
	errUnlinked = errors.New("headers that follow none of those named")
	errBack     = errors.New("headers that lead back")
	errClaim    = errors.New("claims more work than its headers have")
	errShare    = errors.New("its headers take longer than its share of the time that there is")
)

// Sync connects to the peers and takes from them the heaviest chain of headers, each checked: linked, with the difficulty
// that the rules give and the work to show for it. Peers are followed in the order of what they claim, and only if that is more
// than is known already; each has its share of what time ctx leaves. An error is ctx's, of the file, or wraps ErrNoPeers.
func (c *Client) Sync(ctx context.Context) error {
	c.each(func(_ int, s *source) error { return c.hello(ctx, s) })
	byClaim := slices.Clone(c.peers)
	slices.SortStableFunc(byClaim, func(a, b *source) int { return b.status.BestWork.Cmp(&a.status.BestWork) })
	before := c.Best().ID
	for i, s := range byClaim {
		best := c.Best()
		if s.err == nil && s.status.BestWork.Gt(&best.Work) {
			s.err = c.followInTime(ctx, s, len(byClaim)-i)
		}
	}
	if err := c.left(ctx); err != nil {
		return err
	}
	if c.cfg.File != "" && c.Best().ID != before {
		return writeTrail(c.cfg.File, c.trail)
	}
	return nil
}

// followInTime is follow for the first of so many peers that are left: one that claims much and shows it slowly must not
// take the time of all. What it has shown stays.
func (c *Client) followInTime(ctx context.Context, s *source, left int) error {
	end, ok := ctx.Deadline()
	if !ok || left == 1 {
		return c.follow(ctx, s)
	}
	share, cancel := context.WithTimeoutCause(ctx, time.Until(end)/time.Duration(left), errShare)
	defer cancel()
	err := c.follow(share, s)
	if err != nil && context.Cause(share) == errShare {
		return errShare
	}
	return err
}

// follow takes a peer's headers until there are no more. What it has shown so far counts as soon as it is heavier than what
// was known. Only a trail of its branch is kept.
func (c *Client) follow(ctx context.Context, s *source) error {
	branch := c.trail
	var shown chain.Work // each answer must lead to more than the last one
	for {
		q := wire.HeadersRequest{Locator: locator(branch), Max: wire.MaxHeaders}
		b, err := c.ask(ctx, s, wire.NameHeaders, q.Append(nil), wire.MaxHeadersAnswer)
		if err != nil {
			return err
		}
		hs, err := wire.DecodeHeaders(b, wire.MaxHeaders)
		if err != nil {
			return err
		}
		early := false
		if len(hs) > 0 {
			at := slices.IndexFunc(branch, func(st chain.State) bool { return st.ID == hs[0].Parent })
			if at < 0 {
				return errUnlinked
			}
			if branch, early, err = c.extend(slices.Clone(branch[:at+1]), hs); err != nil {
				return err
			}
			end, best := branch[len(branch)-1], c.Best()
			if !end.Work.Gt(&shown) {
				return errBack
			}
			if shown = end.Work; shown.Gt(&best.Work) {
				c.trail = branch
			}
		}
		if len(hs) < wire.MaxHeaders || early { // a node gives as many as are asked for until there are no more
			// The claim was made before: its branch may have lost since to one that we know.
			if best := c.Best(); !early && s.status.BestWork.Gt(&best.Work) {
				return errClaim
			}
			return nil
		}
	}
}

// extend checks headers on the end of a branch. early: it ends where a header is too far ahead of our clock.
func (c *Client) extend(branch []chain.State, hs []chain.Header) (out []chain.State, early bool, err error) {
	soon := uint64(time.Now().UnixMilli() + max(2*c.g.Spacing, 10_000))
	for i := range hs {
		if hs[i].Time > soon {
			return thin(branch), true, nil
		}
		next, err := c.g.CheckHeader(&branch[len(branch)-1], &hs[i])
		if err != nil {
			return nil, false, fmt.Errorf("header at height %d: %w", hs[i].Height, err)
		}
		branch = append(branch, next)
	}
	return thin(branch), false, nil
}

// dense is how many of the newest states a trail keeps.
const dense = 64

// thin keeps of an ascending branch the newest states and ever fewer of the older ones, block 0 last: below 1,000 for any
// height. A branch that leaves it between two is followed from the lower one.
func thin(branch []chain.State) []chain.State {
	tip := branch[len(branch)-1].Header.Height
	out := branch[:0]
	for i := range branch {
		h := branch[i].Header.Height
		if step := bits.Len64((tip - h) / dense); h&(1<<step-1) == 0 {
			out = append(out, branch[i])
		}
	}
	return slices.Clip(out)
}

// locator names states of a trail, newest first: dense for 10, then in doubling steps, block 0 last.
func locator(trail []chain.State) (ids []chain.BlockID) {
	step := 1
	for i := len(trail) - 1; i > 0; i -= step {
		ids = append(ids, trail[i].ID)
		if len(ids) >= 10 {
			step *= 2
		}
	}
	return append(ids, trail[0].ID)
}
