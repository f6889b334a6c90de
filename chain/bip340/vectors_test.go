package bip340

import (
	"encoding/csv"
	"encoding/hex"
	"os"
	"slices"
	"testing"
)

// row is one line of testdata/bip-0340.csv.
type row struct {
	Item
	name, comment string
	secret, aux   []byte // empty where the row is for verification alone
	valid         bool
}

func vectors(t testing.TB) []row {
	t.Helper()
	f, err := os.Open("testdata/bip-0340.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, l := range lines[1:] {
		field := func(i, size int) []byte {
			b, err := hex.DecodeString(l[i])
			if err != nil || size >= 0 && len(b) != size {
				t.Fatalf("row %s, column %d: %d bytes, %v", l[0], i, len(b), err)
			}
			return b
		}
		r := row{name: "row " + l[0], comment: l[7], valid: l[6] == "TRUE"}
		if l[1] != "" {
			r.secret, r.aux = field(1, 32), field(3, 32)
		}
		r.Item = Item{Pub: (*[32]byte)(field(2, 32)), Msg: field(4, -1), Sig: (*[64]byte)(field(5, 64))}
		rows = append(rows, r)
	}
	if len(rows) != 19 {
		t.Fatalf("%d rows, want 19", len(rows))
	}
	return rows
}

func TestVectorsSign(t *testing.T) {
	n := 0
	for _, r := range vectors(t) {
		if r.secret == nil {
			continue
		}
		n++
		pub, err := PublicKey((*[32]byte)(r.secret))
		if err != nil || pub != *r.Pub {
			t.Errorf("%s: public key %X, %v, want %X", r.name, pub, err, *r.Pub)
		}
		sig, err := Sign((*[32]byte)(r.secret), r.Msg, (*[32]byte)(r.aux))
		if err != nil || sig != *r.Sig {
			t.Errorf("%s: signature %X, %v, want %X", r.name, sig, err, *r.Sig)
		}
	}
	if n != 8 {
		t.Errorf("%d rows with a secret key, want 8", n)
	}
}

func TestVectorsVerify(t *testing.T) {
	rows := vectors(t)
	var items []Item
	var want []int
	for i, r := range rows {
		if Verify(r.Pub, r.Msg, r.Sig) != r.valid {
			t.Errorf("%s (%s): Verify says %v", r.name, r.comment, !r.valid)
		}
		alone := []Item{r.Item}
		if VerifyBatch(alone) != r.valid || (Invalid(alone) == nil) != r.valid || (invalid(alone, bare, nil) == nil) != r.valid {
			t.Errorf("%s (%s): the batch of one disagrees", r.name, r.comment)
		}
		if refVerify(r.Pub[:], r.Msg, r.Sig[:]) != r.valid {
			t.Errorf("%s: the naive twin is wrong", r.name)
		}
		items = append(items, r.Item)
		if !r.valid {
			want = append(want, i)
		}
	}
	if got := Invalid(items); !slices.Equal(got, want) {
		t.Errorf("Invalid(all rows) = %v, want %v", got, want)
	}
	if got := invalid(items, bare, nil); !slices.Equal(got, want) {
		t.Errorf("all rows through the batch = %v, want %v", got, want)
	}
	if VerifyBatch(items) {
		t.Error("VerifyBatch accepts all rows")
	}
}

func TestVectorsValidKey(t *testing.T) {
	for _, r := range vectors(t) {
		want := r.name != "row 5" && r.name != "row 14"
		if ValidKey(r.Pub) != want {
			t.Errorf("%s (%s): ValidKey says %v", r.name, r.comment, !want)
		}
	}
}
