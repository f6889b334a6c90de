package rpc

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"quipu/chain"
)

// AccountHistoryParams asks for up to max (1 to 1000) entries of an account's history, named like in account_get.
// Before is next of an earlier answer: older entries than those.
type AccountHistoryParams struct {
	Account *chain.Account `json:"account,omitempty"`
	Address string         `json:"address,omitempty"`
	Max     int            `json:"max"`
	Before  string         `json:"before,omitempty"`
}

func (p AccountHistoryParams) Validate() error {
	if err := (AccountGetParams{p.Account, p.Address}).Validate(); err != nil {
		return err
	}
	if p.Before != "" {
		if _, _, err := ParsePlace(p.Before); err != nil {
			return Errorf(NameInvalidParams, "give next of an earlier answer, or leave it out", "before: %v", err)
		}
	}
	return within("max", p.Max, MaxList)
}

// FormatPlace writes a place in the chain as a cursor; the index of the block's miner is 2^32 − 1.
func FormatPlace(height uint64, index uint32) string { return fmt.Sprintf("%d:%d", height, index) }

// ParsePlace reads what FormatPlace writes.
func ParsePlace(s string) (height uint64, index uint32, err error) {
	h, i, _ := strings.Cut(s, ":")
	height, err = strconv.ParseUint(h, 10, 32)
	if err == nil {
		var n uint64
		n, err = strconv.ParseUint(i, 10, 32)
		index = uint32(n)
	}
	if err != nil || FormatPlace(height, index) != s {
		return 0, 0, fmt.Errorf("%.40q is no HEIGHT:INDEX", s)
	}
	return height, index, nil
}

// AccountHistory is the result of account_history, newest first, as of the tip named. It may be shorter than was asked
// for while next is set: an answer reads only so many bytes of blocks.
type AccountHistory struct {
	Account chain.Account      `json:"account"`
	Address string             `json:"address"`
	Entries List[HistoryEntry] `json:"entries"`
	Next    string             `json:"next,omitempty"` // ask with it as before for older ones; absent at the end
	Indexed uint64             `json:"indexed"`        // blocks up to this height are listed; the index may be catching up
	Tip     BlockRef           `json:"tip"`
}

// HistoryKind is what an entry of an account's history is.
type HistoryKind string

const (
	HistoryTx    HistoryKind = "tx"    // a transaction it sends or is paid by
	HistoryMined HistoryKind = "mined" // a block whose miner it is
)

// HistoryEntry is one transaction or one mined block. Of a block whose body was pruned only the place is known.
type HistoryEntry struct {
	Kind          HistoryKind   `json:"kind"`
	Height        uint64        `json:"height"`
	Block         chain.BlockID `json:"block"`
	TimeMS        uint64        `json:"time_ms"`
	Confirmations uint64        `json:"confirmations"`
	Index         *uint32       `json:"index,omitempty"` // of the transaction in its block, from 0
	Pruned        bool          `json:"pruned,omitempty"`
	TxID          *chain.TxID   `json:"txid,omitempty"`
	From          string        `json:"from_address,omitempty"` // who sent it
	Outputs       int           `json:"outputs,omitempty"`
	Spent         *Decimal      `json:"spent,omitempty"`    // as sender: outputs and fee
	Fee           *Decimal      `json:"fee,omitempty"`      // as sender: of spent
	Received      *Decimal      `json:"received,omitempty"` // outputs to it; of a mined block the reward, if this node still knows it
}

// AccountHistory returns up to max entries of an account's history that are older than before, which is Next of an
// earlier answer or "".
func (c *Client) AccountHistory(ctx context.Context, a chain.Account, before string, max int) (AccountHistory, error) {
	return call[AccountHistory](ctx, c, "account_history", AccountHistoryParams{Account: &a, Before: before, Max: max})
}
