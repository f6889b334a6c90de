package chain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// maxGenesisJSON bounds a genesis file, bytes: about a million funded accounts.
const maxGenesisJSON = 128 << 20

// ParseGenesis reads genesis.json (docs/spec.md §6). Keys are exact and lower-case; unknown, duplicate and missing
// ones are refused, and so is any second way of writing a number.
func ParseGenesis(text []byte) (*Genesis, error) {
	if len(text) > maxGenesisJSON {
		return nil, ruleError(ErrGenesis, "file of %d bytes, at most %d", len(text), maxGenesisJSON)
	}
	fields, order, err := jsonObject(text)
	if err != nil {
		return nil, ruleError(ErrGenesis, "%v", err)
	}
	g := &Genesis{}
	var spacing, halfLife, bodyLimit, halving, minFee uint64
	readers := map[string]func(json.RawMessage) error{
		"name":          func(v json.RawMessage) error { return jsonString(v, &g.Name) },
		"prefix":        func(v json.RawMessage) error { return jsonString(v, &g.Prefix) },
		"time":          func(v json.RawMessage) error { return plainInteger(v, &g.Time) },
		"spacing":       func(v json.RawMessage) error { return plainInteger(v, &spacing) },
		"half_life":     func(v json.RawMessage) error { return plainInteger(v, &halfLife) },
		"body_limit":    func(v json.RawMessage) error { return plainInteger(v, &bodyLimit) },
		"halving":       func(v json.RawMessage) error { return plainInteger(v, &halving) },
		"min_fee_rate":  func(v json.RawMessage) error { return plainInteger(v, &minFee) },
		"bits":          func(v json.RawMessage) error { return hexBits(v, &g.Bits) },
		"limit_bits":    func(v json.RawMessage) error { return hexBits(v, &g.LimitBits) },
		"subsidy":       func(v json.RawMessage) error { return decimalString(v, &g.Subsidy) },
		"tail":          func(v json.RawMessage) error { return decimalString(v, &g.Tail) },
		"account_price": func(v json.RawMessage) error { return decimalString(v, &g.AccountPrice) },
		"balances":      func(json.RawMessage) error { return nil }, // after prefix is known
	}
	for _, key := range order {
		read := readers[key]
		if read == nil {
			return nil, ruleError(ErrGenesis, "unknown key %q", key)
		}
		if err := read(fields[key]); err != nil {
			return nil, ruleError(ErrGenesis, "%s: %v", key, err)
		}
	}
	for key := range readers {
		if fields[key] == nil {
			return nil, ruleError(ErrGenesis, "key %q is missing", key)
		}
	}
	if max(spacing, bodyLimit, halving, minFee) > 1<<32-1 || halfLife > 1<<62 {
		return nil, ruleError(ErrGenesis, "spacing, body_limit, halving and min_fee_rate must be below 2^32")
	}
	g.Spacing, g.HalfLife = int64(spacing), int64(halfLife)
	g.BodyLimit, g.Halving, g.MinFeeRate = uint32(bodyLimit), uint32(halving), uint32(minFee)
	if g.Balances, err = parseBalances(fields["balances"], g.Prefix); err != nil {
		return nil, ruleError(ErrGenesis, "balances: %v", err)
	}
	if err := g.seal(nil); err != nil {
		return nil, err
	}
	return g, nil
}

func parseBalances(text json.RawMessage, prefix string) ([]GenesisBalance, error) {
	fields, order, err := jsonObject(text)
	if err != nil {
		return nil, err
	}
	out := make([]GenesisBalance, len(order))
	for i, addr := range order {
		if out[i].Account, err = DecodeAddress(prefix, addr); err != nil {
			return nil, err
		}
		if err := decimalString(fields[addr], &out[i].Balance); err != nil {
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
	}
	return out, nil
}

// JSON writes g as a genesis.json that ParseGenesis reads back to the same network id.
func (g *Genesis) JSON() []byte {
	type dec = string
	balances := make(map[string]dec, len(g.Balances))
	for _, b := range g.Balances {
		balances[EncodeAddress(g.Prefix, b.Account)] = strconv.FormatUint(b.Balance, 10)
	}
	out, err := json.MarshalIndent(struct {
		Name         string         `json:"name"`
		Prefix       string         `json:"prefix"`
		Time         uint64         `json:"time"`
		Spacing      int64          `json:"spacing"`
		HalfLife     int64          `json:"half_life"`
		Bits         string         `json:"bits"`
		LimitBits    string         `json:"limit_bits"`
		BodyLimit    uint32         `json:"body_limit"`
		Subsidy      dec            `json:"subsidy"`
		Halving      uint32         `json:"halving"`
		Tail         dec            `json:"tail"`
		MinFeeRate   uint32         `json:"min_fee_rate"`
		AccountPrice dec            `json:"account_price"`
		Balances     map[string]dec `json:"balances"`
	}{
		g.Name, g.Prefix, g.Time, g.Spacing, g.HalfLife, fmt.Sprintf("%08x", g.Bits), fmt.Sprintf("%08x", g.LimitBits),
		g.BodyLimit, strconv.FormatUint(g.Subsidy, 10), g.Halving, strconv.FormatUint(g.Tail, 10), g.MinFeeRate,
		strconv.FormatUint(g.AccountPrice, 10), balances,
	}, "", "  ")
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return append(out, '\n')
}

// NewGenesis checks g's exported fields and returns it sealed. g is taken over.
func NewGenesis(g Genesis) (*Genesis, error) {
	if err := g.seal(nil); err != nil {
		return nil, err
	}
	return &g, nil
}

// jsonObject reads one JSON object to the end of text, keys in order, and refuses a duplicate key, which
// encoding/json would pass over.
func jsonObject(text []byte) (map[string]json.RawMessage, []string, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, fmt.Errorf("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	var order []string
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, nil, err
		}
		key := t.(string) // inside an object a token before ':' is a string, or Token fails
		if _, twice := fields[key]; twice {
			return nil, nil, fmt.Errorf("key %q stands twice", key)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, nil, err
		}
		fields[key] = v
		order = append(order, key)
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, err
	}
	if rest := text[dec.InputOffset():]; len(bytes.Trim(rest, " \t\r\n")) > 0 { // JSON's white space, not Unicode's
		return nil, nil, fmt.Errorf("more text after the object")
	}
	return fields, order, nil
}

func jsonString(v json.RawMessage, dst *string) error {
	if len(v) == 0 || v[0] != '"' {
		return fmt.Errorf("want a string, got %s", v)
	}
	return json.Unmarshal(v, dst)
}

func plainInteger(v json.RawMessage, dst *uint64) error { return plainDigits(string(v), dst) }

func decimalString(v json.RawMessage, dst *uint64) error {
	var s string
	if err := jsonString(v, &s); err != nil {
		return err
	}
	return plainDigits(s, dst)
}

// plainDigits accepts decimal digits without sign, point, exponent or leading zeros.
func plainDigits(s string, dst *uint64) error {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return fmt.Errorf("%q is not a plain decimal integer below 2^64", s)
	}
	*dst = n
	return nil
}

// hexBits accepts a string of exactly 8 lower-case hex digits, most significant first.
func hexBits(v json.RawMessage, dst *uint32) error {
	var s string
	if err := jsonString(v, &s); err != nil {
		return err
	}
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || fmt.Sprintf("%08x", n) != s {
		return fmt.Errorf("%q is not 8 lower-case hex digits", s)
	}
	*dst = uint32(n)
	return nil
}
