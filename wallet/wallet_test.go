package wallet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"quipu/chain"
)

var pass = []byte("knots on a cord")

// testGenesis is a network with a fee rate and an account price.
func testGenesis(t testing.TB) *chain.Genesis {
	t.Helper()
	return networkNamed(t, "wallet-test", "tqp")
}

func networkNamed(t testing.TB, name, prefix string) *chain.Genesis {
	t.Helper()
	g, err := chain.NewGenesis(chain.Genesis{
		Name: name, Prefix: prefix, Time: 1_700_000_000_000, Spacing: 1000, HalfLife: 144_000,
		Bits: 0x207fffff, LimitBits: 0x207fffff, BodyLimit: 1 << 20,
		Subsidy: 50 * chain.Knots, Halving: 100_000, Tail: 0, MinFeeRate: 2, AccountPrice: 100_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func testOptions(t testing.TB) Options {
	return Options{Genesis: testGenesis(t), KDF: LightKDF}
}

func TestCreateOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wallets")
	path := Path(dir, "alice")
	w, err := Create(path, testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	mnemonic, err := w.Mnemonic()
	if err != nil || len(strings.Fields(mnemonic)) != 12 {
		t.Fatalf("%d words, %v", len(strings.Fields(mnemonic)), err)
	}
	info := w.Info()
	if info.Name != "alice" || info.Network != "wallet-test" || info.BackedUp || !info.HasPassphrase {
		t.Errorf("info %+v", info)
	}
	wantMode(t, dir, 0o700)
	wantMode(t, path, 0o600)
	wantFiles(t, dir, "alice.json")

	if i, err := w.NewAccount(); i != 1 || err != nil {
		t.Fatalf("NewAccount = %d, %v", i, err)
	}
	if err := w.SetBackedUp(); err != nil {
		t.Fatal(err)
	}
	wantMode(t, path, 0o600)
	wantFiles(t, dir, "alice.json")

	again, err := Open(path, pass)
	if err != nil {
		t.Fatal(err)
	}
	if again.Accounts() != 2 || !again.Info().BackedUp || again.Kind() != KindSeed {
		t.Errorf("%d accounts, info %+v", again.Accounts(), again.Info())
	}
	for i := range uint32(3) {
		a, err := w.Account(i)
		b, err2 := again.Account(i)
		if a != b || err != nil || err2 != nil {
			t.Errorf("account %d: %v %v", i, err, err2)
		}
	}
	if got, err := Inspect(path); err != nil || got != again.Info() {
		t.Errorf("Inspect = %+v, %v", got, err)
	}

	// The words alone give the same accounts.
	restored, err := Restore(Path(dir, "copy"), testOptions(t), strings.ToUpper(mnemonic), []byte("other"))
	if err != nil {
		t.Fatal(err)
	}
	if restored.Info().Address != info.Address || !restored.Info().BackedUp {
		t.Errorf("restored %+v, want address %s", restored.Info(), info.Address)
	}

	w.Close()
	if _, err := w.Account(0); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed wallet: %v", err)
	}
	if _, err := w.NewAccount(); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed wallet: %v", err)
	}
	w.Close()
}

func TestImportKey(t *testing.T) {
	// Secret key 3 of BIP-340's first test vector.
	secret := [32]byte{31: 3}
	path := Path(t.TempDir(), "k")
	w, err := Import(path, testOptions(t), &secret, pass)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if secret[31] != 3 {
		t.Error("the caller's key was cleared")
	}
	w, err = Open(path, pass)
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.Account(0)
	if err != nil || a.String() != "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9" {
		t.Errorf("account %v, %v", a, err)
	}
	if _, err := w.Account(1); !errors.Is(err, ErrNoAccount) {
		t.Errorf("account 1 of a key: %v", err)
	}
	if _, err := w.NewAccount(); !errors.Is(err, ErrNoAccount) {
		t.Errorf("NewAccount of a key: %v", err)
	}
	if _, err := w.Mnemonic(); !errors.Is(err, ErrNoMnemonic) {
		t.Errorf("Mnemonic of a key: %v", err)
	}
	for name, bad := range map[string]string{
		"zero":  strings.Repeat("00", 32),
		"order": "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
	} {
		k := [32]byte(unhex(t, bad))
		p := Path(t.TempDir(), "bad")
		if _, err := Import(p, testOptions(t), &k, pass); err == nil {
			t.Errorf("%s is taken as a key", name)
		}
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s left a file", name)
		}
	}
}

func TestPassphrases(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(t)
	if _, err := Create(Path(dir, "a"), o, nil); !errors.Is(err, ErrPassphraseRequired) {
		t.Errorf("empty passphrase: %v", err)
	}
	wantFiles(t, dir)

	// A throw-away wallet has none, and ignores one that is offered.
	o.NoPassphrase = true
	w, err := Create(Path(dir, "a"), o, nil)
	if err != nil || w.Info().HasPassphrase {
		t.Fatalf("%v, %+v", err, w)
	}
	for _, p := range [][]byte{nil, {}, []byte("anything")} {
		if _, err := Open(w.Path(), p); err != nil {
			t.Errorf("passphrase %q on a wallet without one: %v", p, err)
		}
	}
	if err := w.ChangePassphrase(nil, LightKDF); !errors.Is(err, ErrPassphraseRequired) {
		t.Errorf("change to empty: %v", err)
	}
	if err := w.ChangePassphrase(pass, KDF{Time: 1, MemoryKiB: maxKDFMemory + 1, Threads: 1}); err == nil {
		t.Error("a huge KDF is taken")
	}
	if err := w.ChangePassphrase(pass, LightKDF); err != nil {
		t.Fatal(err)
	}
	if _, err := w.NewAccount(); err != nil { // sealed with the new key
		t.Fatal(err)
	}
	for _, p := range []string{"", "Knots on a cord", "knots on a cord "} {
		if _, err := Open(w.Path(), []byte(p)); !errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("passphrase %q: %v", p, err)
		}
	}
	if again, err := Open(w.Path(), pass); err != nil || again.Accounts() != 2 {
		t.Errorf("%v", err)
	}
}

func TestDefaultKDF(t *testing.T) {
	if err := DefaultKDF.Validate(); err != nil {
		t.Error(err)
	}
	if err := LightKDF.Validate(); err != nil {
		t.Error(err)
	}
	w := &Wallet{file: &keyFile{}}
	if err := w.setKey(DefaultKDF, pass); err != nil || len(w.key) != 32 {
		t.Error(err)
	}
}

// TestCreateNeverOverwrites: of many creators of one name exactly one wins, and
// its file is whole.
func TestCreateNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "w")
	o := testOptions(t)
	const n = 8
	var wg sync.WaitGroup
	made, errs := make([]*Wallet, n), make([]error, n)
	for i := range n {
		wg.Go(func() { made[i], errs[i] = Create(path, o, pass) })
	}
	wg.Wait()
	var winner *Wallet
	for i := range n {
		switch {
		case errs[i] == nil && winner == nil:
			winner = made[i]
		case errs[i] == nil:
			t.Error("two creators won")
		case !errors.Is(errs[i], ErrExists):
			t.Errorf("a loser got %v", errs[i])
		}
	}
	if winner == nil {
		t.Fatal("nobody won")
	}
	w, err := Open(path, pass)
	if err != nil || w.Info() != winner.Info() {
		t.Errorf("%v", err)
	}
	wantFiles(t, dir, "w.json")

	// Whatever is in the way stays.
	for _, name := range []string{"text", "link"} {
		p := Path(dir, name)
		if name == "text" {
			os.WriteFile(p, []byte("mine"), 0o600)
		} else if err := os.Symlink(filepath.Join(dir, "nowhere"), p); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(p, o, pass); !errors.Is(err, ErrExists) {
			t.Errorf("%s in the way: %v", name, err)
		}
	}
	if b, _ := os.ReadFile(Path(dir, "text")); string(b) != "mine" {
		t.Errorf("overwritten with %q", b)
	}
	// The way without hard links is as exclusive.
	if err := createDirect(path, []byte("x")); !errors.Is(err, os.ErrExist) {
		t.Errorf("createDirect over a file: %v", err)
	}
	if err := createDirect(Path(dir, "direct"), winner.raw); err != nil {
		t.Error(err)
	}
	wantMode(t, Path(dir, "direct"), 0o600)
}

func TestRewriteRefusesStrangersChange(t *testing.T) {
	dir := t.TempDir()
	a, err := Create(Path(dir, "w"), testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(a.Path(), pass)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.NewAccount(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.NewAccount(); !errors.Is(err, ErrChanged) || b.Accounts() != 1 {
		t.Errorf("second writer: %v, %d accounts", err, b.Accounts())
	}
	if err := b.SetBackedUp(); !errors.Is(err, ErrChanged) || b.Info().BackedUp {
		t.Errorf("second writer: %v", err)
	}
	if err := b.ChangePassphrase([]byte("x"), LightKDF); !errors.Is(err, ErrChanged) {
		t.Errorf("second writer: %v", err)
	}
	os.Remove(a.Path())
	if _, err := a.NewAccount(); !errors.Is(err, ErrChanged) {
		t.Errorf("file gone: %v", err)
	}
	wantFiles(t, dir)
}

func TestOpenThroughLink(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(Path(dir, "w"), testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	link := Path(dir, "link")
	if err := os.Symlink(w.Path(), link); err != nil {
		t.Fatal(err)
	}
	l, err := Open(link, pass)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.NewAccount(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
	if again, err := Open(w.Path(), pass); err != nil || again.Accounts() != 2 {
		t.Errorf("%v", err)
	}
}

func TestListAndBackup(t *testing.T) {
	if list, err := List(filepath.Join(t.TempDir(), "none")); len(list) != 0 || err != nil {
		t.Errorf("missing directory: %v, %v", list, err)
	}
	dir := t.TempDir()
	o := testOptions(t)
	for _, name := range []string{"carol", "alice", "bob"} {
		if _, err := Create(Path(dir, name), o, pass); err != nil {
			t.Fatal(err)
		}
	}
	if err := Backup(Path(dir, "alice"), Path(dir, "backup")); err != nil {
		t.Fatal(err)
	}
	if err := Backup(Path(dir, "alice"), Path(dir, "bob")); !errors.Is(err, ErrExists) {
		t.Errorf("backup over a wallet: %v", err)
	}
	if w, err := Open(Path(dir, "backup"), pass); err != nil || w.Info().Name != "alice" {
		t.Errorf("backup: %v", err)
	}
	os.WriteFile(Path(dir, "zbad"), []byte("{"), 0o600)
	os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, ".x.json"), nil, 0o600)
	os.Mkdir(Path(dir, "zdir"), 0o700)
	os.Chmod(Path(dir, "carol"), 0o640)
	list, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		file string
		err  error
	}{{"alice", nil}, {"backup", nil}, {"bob", nil}, {"carol", ErrPermissions}, {"zbad", ErrDamaged}, {"zdir", ErrDamaged}}
	if len(list) != len(want) {
		t.Fatalf("%d entries: %v", len(list), list)
	}
	for i, e := range list {
		if e.Path != Path(dir, want[i].file) || !errors.Is(e.Err, want[i].err) || (e.Err == nil) != (want[i].err == nil) {
			t.Errorf("entry %d: %s %v", i, e.Path, e.Err)
		}
		if e.Err == nil && (e.Info.Address == "" || e.Info.Network != "wallet-test") {
			t.Errorf("entry %d: %+v", i, e.Info)
		}
	}
}

func TestCheckNetwork(t *testing.T) {
	w, err := Create(Path(t.TempDir(), "w"), testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.CheckNetwork(testGenesis(t)); err != nil {
		t.Error(err)
	}
	err = w.CheckNetwork(networkNamed(t, "another", "tqp"))
	if !errors.Is(err, ErrNetwork) || Hint(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "Alice", "my-wallet_2.old", strings.Repeat("x", 64)} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	dir := t.TempDir()
	for _, bad := range []string{"", ".", "..", ".a", "-a", "_a", "a/b", "a\\b", "a b", "ä", "a\x00", "a\n", strings.Repeat("x", 65)} {
		if err := CheckName(bad); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Create(dir+"/"+bad+".json", testOptions(t), pass); err == nil && !strings.Contains(bad, "/") {
			t.Errorf("%q was created", bad)
		}
	}
	if _, err := Create(filepath.Join(dir, "nosuffix"), testOptions(t), pass); !errors.Is(err, ErrName) {
		t.Errorf("without .json: %v", err)
	}
}

// TestNoSecretShown: no way of printing a wallet, a key or an error shows a secret.
func TestNoSecretShown(t *testing.T) {
	path := Path(t.TempDir(), "w")
	w, err := Create(path, testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	mnemonic, _ := w.Mnemonic()
	k, err := w.Key(0)
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := Open(path, []byte("a wrong passphrase"))
	var text bytes.Buffer
	for _, v := range []any{w, *w, k, *k, w.secret, *w.secret, wrong} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(j)
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "v", v)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text.Write(raw)
	for _, s := range []string{
		hex.EncodeToString(w.secret.bytes), hex.EncodeToString(k.secret[:]), hex.EncodeToString(w.key),
		strings.Trim(fmt.Sprint(w.secret.bytes), "[]"), strings.Trim(fmt.Sprint(k.secret), "[]"),
		string(pass), "a wrong passphrase", strings.Join(strings.Fields(mnemonic)[:3], " "),
	} {
		if strings.Contains(strings.ToLower(text.String()), s) {
			t.Errorf("shown: %s", s)
		}
	}
}

func TestEveryErrorHasAHint(t *testing.T) {
	for _, err := range []error{ErrNotFound, ErrExists, ErrPermissions, ErrWrongPassphrase, ErrPassphraseRequired,
		ErrDamaged, ErrNewer, ErrChanged, ErrName, ErrNetwork, ErrNoAccount, ErrNoMnemonic} {
		if h := Hint(at("p", &Error{Kind: err})); !strings.HasSuffix(h, ".") {
			t.Errorf("%v: hint %q", err, h)
		}
	}
	if Hint(errors.New("x")) != "" {
		t.Error("a hint for a stranger's error")
	}
}

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != mode {
		t.Errorf("%s: mode %v, %v", path, st.Mode(), err)
	}
}

// wantFiles also shows that no temporary file stayed behind.
func wantFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("files %q, want %q", got, names)
	}
}
