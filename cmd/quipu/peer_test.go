package main

import (
	"testing"
	"time"

	"quipu/rpc"
)

func TestChargesOfAPeer(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for want, p := range map[string]rpc.Peer{
		"-":                          {},
		"silent 3, unproven-claim 1": {Charges: map[string]uint64{"unproven-claim": 1, "silent": 3}},
		"silent 1, rests " + ago(0):  {Charges: map[string]uint64{"silent": 1}, RestsUntil: &past},
	} {
		if got := charges(&p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
