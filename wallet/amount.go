package wallet

import (
	"fmt"
	"strconv"
	"strings"

	"quipu/chain"
)

// decimals is the number of digits behind the point: 1 QPU = 10^8 knots.
const decimals = 8

// ParseAmount reads an amount in QPU, such as "1.5" or "0.00000001", as knots.
// It is exact: digits, at most one point with 1 to 8 digits behind it, no sign,
// blank, exponent or separator, no superfluous leading zero, and at most
// 2^63-1 knots, the largest supply a network may have.
func ParseAmount(s string) (uint64, error) {
	bad := func(why string) (uint64, error) {
		return 0, fmt.Errorf("%.40q is not an amount in QPU: %s", s, why)
	}
	whole, frac, point := strings.Cut(s, ".")
	switch {
	case s == "":
		return bad("it is empty")
	case strings.HasPrefix(s, "-"):
		return bad("it is negative")
	case whole == "" || point && frac == "" || !digits(whole) || !digits(frac):
		return bad("write digits, and a point with digits on both sides if needed, like 1.5")
	case len(whole) > 1 && whole[0] == '0':
		return bad("it begins with a superfluous 0")
	case len(frac) > decimals:
		return bad("it has more than 8 decimals, and 1 knot is 0.00000001 QPU")
	}
	n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", decimals-len(frac)), 10, 64)
	if err != nil || n > chain.AnySupply {
		return bad("it is more than any supply can be")
	}
	return n, nil
}

// FormatAmount writes knots in QPU with as few decimals as are exact: the
// inverse of ParseAmount up to trailing zeros.
func FormatAmount(knots uint64) string {
	s := fmt.Sprintf("%d.%08d", knots/chain.Knots, knots%chain.Knots)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
