package wallet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

// sampleFile is a valid wallet file and its path.
func sampleFile(t testing.TB) (string, []byte) {
	t.Helper()
	path := Path(t.TempDir(), "w")
	w, err := Create(path, testOptions(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return path, w.raw
}

// TestGolden opens files written by version 1 of the format: whoever changes the
// format must keep reading them. A Python script (argon2id and ChaCha20-Poly1305
// of its cryptography package, HChaCha20 by hand) read the same payloads from
// them: 01 01 02000000 10 7f…7f and 01 02 01000000 20 00…03.
func TestGolden(t *testing.T) {
	for file, want := range map[string]string{
		"golden-seed": "0101" + "02000000" + "10" + strings.Repeat("7f", 16),
		"golden-key":  "0102" + "01000000" + "20" + strings.Repeat("00", 31) + "03",
	} {
		raw, err := os.ReadFile("testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		path := Path(t.TempDir(), file)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(path, pass)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(w.secret.encode()); got != want {
			t.Errorf("%s holds %s", file, got)
		}
		if again, err := w.file.encode(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s is written differently now", file)
		}
	}
}

// TestKeyFileDamage: one valid file and its corruptions, each with the error it
// must give. None may cost an argon2id run beyond the light one.
func TestKeyFileDamage(t *testing.T) {
	path, good := sampleFile(t)
	replace := func(old, new string) func() []byte {
		return func() []byte {
			if !bytes.Contains(good, []byte(old)) {
				t.Fatalf("no %q in the file", old)
			}
			return bytes.Replace(good, []byte(old), []byte(new), 1)
		}
	}
	raw := func(s string) func() []byte { return func() []byte { return []byte(s) } }
	cases := []struct {
		name string
		file func() []byte
		want error
	}{
		{"as it is", raw(string(good)), nil},
		{"other order and blanks", func() []byte {
			s := strings.Replace(string(good), "  \"name\": \"w\",\n", "", 1)
			return []byte(strings.Replace(s, "{", "{\t\"name\" : \"\\u0077\",\r\n", 1))
		}, nil},
		{"empty", raw(""), ErrDamaged},
		{"blank", raw(" \n"), ErrDamaged},
		{"null", raw("null"), ErrDamaged},
		{"array", raw("[]"), ErrDamaged},
		{"no keys", raw("{}"), ErrDamaged},
		{"two objects", raw(string(good) + string(good)), ErrDamaged},
		{"zeros after a power cut", raw(strings.Repeat("\x00", len(good))), ErrDamaged},
		{"over 64 KiB", raw(string(good) + strings.Repeat(" ", maxFile)), ErrDamaged},
		{"deep nesting", raw(strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)), ErrDamaged},
		{"newer version", replace(`"quipu_wallet": 1`, `"quipu_wallet": 2`), ErrNewer},
		{"newer version with other keys", raw(`{"quipu_wallet": 2, "anything": {}}`), ErrNewer},
		{"version 0", replace(`"quipu_wallet": 1`, `"quipu_wallet": 0`), ErrDamaged},
		{"version as text", replace(`"quipu_wallet": 1`, `"quipu_wallet": "1"`), ErrDamaged},
		{"version 1.0", replace(`"quipu_wallet": 1`, `"quipu_wallet": 1.0`), ErrDamaged},
		{"unknown key", replace(`"name"`, `"label": "x", "name"`), ErrDamaged},
		{"unknown key in kdf", replace(`"time"`, `"pepper": 1, "time"`), ErrDamaged},
		{"unknown key in cipher", replace(`"nonce"`, `"tag": 1, "nonce"`), ErrDamaged},
		{"duplicate key", replace(`"name": "w"`, `"name": "w", "name": "w"`), ErrDamaged},
		{"duplicate key, escaped", replace(`"name": "w"`, `"name": "w", "nam\u0065": "w"`), ErrDamaged},
		{"duplicate key in kdf", replace(`"time": 1`, `"time": 1, "time": 1`), ErrDamaged},
		{"key in other case", replace(`"name": "w"`, `"Name": "w"`), ErrDamaged},
		{"missing key", replace(`  "backed_up": false,`, ``), ErrDamaged},
		{"null flag", replace(`"backed_up": false`, `"backed_up": null`), ErrDamaged},
		{"flag altered", replace(`"backed_up": false`, `"backed_up": true`), ErrDamaged},
		{"passphrase flag altered", replace(`"passphrase": true`, `"passphrase": false`), ErrDamaged},
		{"other name", replace(`"name": "w"`, `"name": "v"`), ErrDamaged},
		{"name is a path", replace(`"name": "w"`, `"name": "../w"`), ErrDamaged},
		{"name null", replace(`"name": "w"`, `"name": null`), ErrDamaged},
		{"other network", replace(`"wallet-test"`, `"quipu-open"`), ErrDamaged},
		{"control character", replace(`"wallet-test"`, `"wallet\u001btest"`), ErrDamaged},
		{"long network", replace(`"wallet-test"`, `"`+strings.Repeat("x", 1000)+`"`), ErrDamaged},
		{"address typo", replace(`"address": "tqp1p`, `"address": "tqp1q`), ErrDamaged},
		{"address empty", func() []byte { return setField(good, "address", "") }, ErrDamaged},
		{"address upper case", func() []byte { return setField(good, "address", strings.ToUpper(field(t, good, "address"))) }, ErrDamaged},
		{"other kdf", replace(`"argon2id"`, `"scrypt"`), ErrDamaged},
		{"other cipher", replace(`"xchacha20-poly1305"`, `"aes-256-gcm"`), ErrDamaged},
		{"salt short", func() []byte { return setField(good, "salt", "00") }, ErrDamaged},
		{"memory 2 GiB", replace(`"memory_kib": 64`, `"memory_kib": 2097152`), ErrDamaged},
		{"memory 2^32", replace(`"memory_kib": 64`, `"memory_kib": 4294967296`), ErrDamaged},
		{"memory 0", replace(`"memory_kib": 64`, `"memory_kib": 0`), ErrDamaged},
		{"memory negative", replace(`"memory_kib": 64`, `"memory_kib": -64`), ErrDamaged},
		{"time 17", replace(`"time": 1`, `"time": 17`), ErrDamaged},
		{"time 0", replace(`"time": 1`, `"time": 0`), ErrDamaged},
		{"time 1e0", replace(`"time": 1`, `"time": 1e0`), ErrDamaged},
		{"time 01", replace(`"time": 1`, `"time": 01`), ErrDamaged},
		{"threads 9", replace(`"threads": 1`, `"threads": 9`), ErrDamaged},
		{"threads 257", replace(`"threads": 1`, `"threads": 257`), ErrDamaged},
		{"nonce short", func() []byte { return setField(good, "nonce", "00") }, ErrDamaged},
		{"sealed empty", func() []byte { return setField(good, "sealed", "") }, ErrDamaged},
		{"sealed odd", func() []byte { return setField(good, "sealed", field(t, good, "sealed")+"0") }, ErrDamaged},
		{"sealed huge", func() []byte { return setField(good, "sealed", strings.Repeat("00", 1000)) }, ErrDamaged},
		{"sealed upper case", func() []byte { return setField(good, "sealed", strings.ToUpper(field(t, good, "sealed"))) }, ErrDamaged},
	}
	for _, c := range cases {
		if err := os.WriteFile(path, c.file(), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, pass)
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), path) || strings.ContainsAny(err.Error(), "\n\x1b") || Hint(err) == "") {
			t.Errorf("%s: not one clear sentence: %q, hint %q", c.name, err, Hint(err))
		}
	}
}

// TestKeyFileBits: every single flipped bit and every truncation is found
// without deriving a key.
func TestKeyFileBits(t *testing.T) {
	_, good := sampleFile(t)
	for n := range len(good) - 1 { // the last byte is a line feed
		if _, err := decodeKeyFile(good[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := decodeKeyFile(bad); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Fatalf("bit %d of byte %d (%q): %v", bit, i, good[i], err)
			}
		}
	}
}

// TestKeyFileForged: someone who alters a field and mends the checksum is
// stopped by the seal, whatever the field is.
func TestKeyFileForged(t *testing.T) {
	_, good := sampleFile(t)
	other := testGenesis(t)
	forgeries := map[string]func(f *keyFile){
		"nothing":    func(f *keyFile) {},
		"name":       func(f *keyFile) { f.Name = "v" },
		"network":    func(f *keyFile) { f.Network = "quipu-open" },
		"network id": func(f *keyFile) { f.NetworkID[0] ^= 1 },
		"address":    func(f *keyFile) { f.Address = mustAddress(t, other.Prefix) },
		"backed up":  func(f *keyFile) { f.BackedUp = !f.BackedUp },
		"passphrase": func(f *keyFile) { f.HasPassphrase = !f.HasPassphrase },
		"kdf time":   func(f *keyFile) { f.kdf.Time++ },
		"kdf memory": func(f *keyFile) { f.kdf.MemoryKiB++ },
		"kdf lanes":  func(f *keyFile) { f.kdf.Threads++ },
		"salt":       func(f *keyFile) { f.salt[0] ^= 1 },
		"nonce":      func(f *keyFile) { f.nonce[0] ^= 1 },
		"sealed":     func(f *keyFile) { f.sealed[0] ^= 1 },
		"tag":        func(f *keyFile) { f.sealed[len(f.sealed)-1] ^= 1 },
		"cut":        func(f *keyFile) { f.sealed = f.sealed[:len(f.sealed)-1] },
	}
	for name, forge := range forgeries {
		f, err := decodeKeyFile(good)
		if err != nil {
			t.Fatal(err)
		}
		forge(f)
		raw, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeKeyFile(raw)
		if err != nil {
			t.Errorf("%s: the forgery is not even read: %v", name, err)
			continue
		}
		_, _, err = back.open(pass)
		if name == "nothing" && err != nil || name != "nothing" && !errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyFileForgedBounds: a mended checksum doesn't get a value out of bounds
// past the decoder; in particular no huge key derivation is ever started.
func TestKeyFileForgedBounds(t *testing.T) {
	_, good := sampleFile(t)
	forgeries := map[string]func(f *keyFile){
		"memory over 1 GiB":        func(f *keyFile) { f.kdf.MemoryKiB = maxKDFMemory + 1 },
		"most memory":              func(f *keyFile) { f.kdf.MemoryKiB = 1<<32 - 1 },
		"time 17":                  func(f *keyFile) { f.kdf.Time = 17 },
		"most time":                func(f *keyFile) { f.kdf.Time = 1<<32 - 1 },
		"9 threads":                func(f *keyFile) { f.kdf.Threads = 9 },
		"257 threads":              func(f *keyFile) { f.kdf.Threads = 257 },
		"too little for its lanes": func(f *keyFile) { f.kdf = KDF{1, 63, 8} },
		"name a path":              func(f *keyFile) { f.Name = "../w" },
		"no name":                  func(f *keyFile) { f.Name = "" },
		"no address":               func(f *keyFile) { f.Address = "" },
		"address without a 1":      func(f *keyFile) { f.Address = "tqp" },
		"address in upper case":    func(f *keyFile) { f.Address = strings.ToUpper(f.Address) },
		"address misspelt":         func(f *keyFile) { f.Address = f.Address[:len(f.Address)-1] },
		"long seal":                func(f *keyFile) { f.sealed = make([]byte, 100) },
	}
	for name, forge := range forgeries {
		f, err := decodeKeyFile(good)
		if err != nil {
			t.Fatal(err)
		}
		forge(f)
		raw, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeKeyFile(raw); !errors.Is(err, ErrDamaged) || strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedPayload: a file whose seal holds, made by a program that erred or
// by the owner: the address must be that of the key.
func TestForgedPayload(t *testing.T) {
	path, good := sampleFile(t)
	f, err := decodeKeyFile(good)
	if err != nil {
		t.Fatal(err)
	}
	s, key, err := f.open(pass)
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(f *keyFile, s *secret){
		"another's address": func(f *keyFile, s *secret) { f.Address = mustAddress(t, "tqp") },
		"a key of zero":     func(f *keyFile, s *secret) { *s = secret{KindKey, 1, make([]byte, 32)} },
	} {
		f2, s2 := *f, *s
		forge(&f2, &s2)
		raw, err := f2.seal(key, &s2)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, pass); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPermissions(t *testing.T) {
	path, _ := sampleFile(t)
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660, 0o620, 0o601} {
		os.Chmod(path, mode)
		_, err := Open(path, pass)
		if !errors.Is(err, ErrPermissions) || !strings.Contains(Hint(err), "chmod 600 '"+path+"'") {
			t.Errorf("mode %o: %v, hint %q", mode, err, Hint(err))
		}
	}
	os.Chmod(path, 0o400)
	if _, err := Open(path, pass); err != nil {
		t.Errorf("mode 400: %v", err)
	}
	if _, err := Open(path+"x", pass); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Open(t.TempDir(), pass); !errors.Is(err, ErrDamaged) {
		t.Errorf("directory: %v", err)
	}
}

func TestKDFValidate(t *testing.T) {
	for _, k := range []KDF{{1, 8, 1}, {16, 1 << 20, 8}, {1, 64, 8}} {
		if err := k.Validate(); err != nil {
			t.Errorf("%+v: %v", k, err)
		}
	}
	for _, k := range []KDF{{}, {0, 64, 1}, {17, 64, 1}, {1, 7, 1}, {1, 63, 8}, {1, 1<<20 + 1, 1}, {1, 64, 0}, {1, 128, 9}} {
		if err := k.Validate(); err == nil {
			t.Errorf("%+v is taken", k)
		}
	}
}

func TestDecodeSecret(t *testing.T) {
	seed := (&secret{KindSeed, 3, make([]byte, 20)}).encode()
	key := (&secret{KindKey, 1, make([]byte, 32)}).encode()
	alter := func(b []byte, i int, v byte) []byte { b = bytes.Clone(b); b[i] = v; return b }
	cases := []struct {
		name string
		in   []byte
		want error
	}{
		{"seed", seed, nil}, {"key", key, nil},
		{"empty", nil, ErrDamaged}, {"short", seed[:6], ErrDamaged}, {"cut", seed[:20], ErrDamaged},
		{"long", append(bytes.Clone(seed), 0), ErrDamaged}, {"version 0", alter(seed, 0, 0), ErrDamaged},
		{"version 2", alter(seed, 0, 2), ErrNewer}, {"kind 3", alter(seed, 1, 3), ErrNewer},
		{"no account", alter(seed, 2, 0), ErrDamaged}, {"too many accounts", alter(seed, 5, 0x80), ErrDamaged},
		{"key with two accounts", alter(key, 2, 2), ErrDamaged},
		{"key of 20 bytes", alter(seed, 1, 2), ErrDamaged},
		{"entropy of 33 bytes", append(alter(key, 6, 33), 0), ErrDamaged},
	}
	for _, c := range cases {
		s, err := decodeSecret(c.in)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil && !bytes.Equal(s.encode(), c.in) {
			t.Errorf("%s: came back as %x", c.name, s.encode())
		}
	}
}

// FuzzDecodeKeyFile: no bytes panic; what is read is written back to the same
// values, and writing is stable.
func FuzzDecodeKeyFile(f *testing.F) {
	for _, file := range []string{"testdata/golden-seed.json", "testdata/golden-key.json"} {
		good, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good)
	}
	f.Add([]byte(`{"quipu_wallet": 2}`))
	f.Add([]byte(`{"quipu_wallet": 1, "name": "a", "name": "b"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := decodeKeyFile(raw)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		one, err := k.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeKeyFile(one)
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		if !bytes.Equal(back.aad(), k.aad()) || !bytes.Equal(back.sealed, k.sealed) {
			t.Fatal("came back different")
		}
	})
}

// FuzzDecodeSecret: one encoding a value.
func FuzzDecodeSecret(f *testing.F) {
	f.Add((&secret{KindSeed, 1, make([]byte, 16)}).encode())
	f.Add((&secret{KindKey, 1, make([]byte, 32)}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSecret(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Fatalf("%x came back as %x", b, s.encode())
		}
	})
}

// field and setField read and replace a text of the file by its key.
func field(t testing.TB, file []byte, key string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(file), `"`+key+`": "`)
	if !ok {
		t.Fatalf("no %s", key)
	}
	v, _, _ := strings.Cut(rest, `"`)
	return v
}

func setField(file []byte, key, value string) []byte {
	head, rest, _ := strings.Cut(string(file), `"`+key+`": "`)
	_, tail, _ := strings.Cut(rest, `"`)
	return []byte(head + `"` + key + `": "` + value + `"` + tail)
}
