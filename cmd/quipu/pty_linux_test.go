package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"quipu/wallet"
)

// screen is a pseudo-terminal: the program has one end, the test types and reads at the other.
type screen struct {
	t        *testing.T
	keyboard *os.File // our end
	terminal *os.File // the program's
	mu       sync.Mutex
	shown    bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, keyboard: master, terminal: slave}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.shown.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { slave.Close(); master.Close() })
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// answer waits for a question that hasn't been answered yet and types.
func (s *screen) answer(question, line string) {
	s.t.Helper()
	s.after(question)
	if _, err := s.keyboard.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// secretly is answer for a question whose answer isn't echoed: it types once the terminal has stopped echoing, as
// a person is slower than the program.
func (s *screen) secretly(question, line string) {
	s.t.Helper()
	s.after(question)
	waitFor(s.t, "no echo", func() bool {
		mode, err := unix.IoctlGetTermios(int(s.terminal.Fd()), unix.TCGETS)
		return err == nil && mode.Lflag&unix.ECHO == 0
	})
	if _, err := s.keyboard.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// after waits until text is shown and forgets everything up to its end.
func (s *screen) after(text string) string {
	s.t.Helper()
	var before string
	defer func() {
		if s.t.Failed() {
			s.t.Logf("on the screen: %q", s.text())
		}
	}()
	waitFor(s.t, "shown: "+text, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := strings.Index(s.shown.String(), text)
		if i < 0 {
			return false
		}
		before = string(s.shown.Next(i + len(text)))[:i]
		return true
	})
	return before
}

// start runs the program on the terminal. Its standard output goes elsewhere, as in "quipu … > file".
func (s *screen) start(args ...string) <-chan result { return s.startCtx(s.t.Context(), args...) }

func (s *screen) startCtx(ctx context.Context, args ...string) <-chan result {
	done := make(chan result, 1)
	go func() {
		var out bytes.Buffer
		code := run(ctx, args, s.terminal, &out, s.terminal)
		done <- result{code: code, out: out.String()}
	}()
	return done
}

func finish(t *testing.T, s *screen, done <-chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(30 * time.Second):
		t.Fatalf("the program hangs; on the screen:\n%q", s.text())
		return result{}
	}
}

// TestTerminal: a wallet is made by a person. The passphrase is asked for twice and not echoed; the words are shown
// on the alternate screen alone, two are asked for, and neither they nor the passphrase stand on standard output.
func TestTerminal(t *testing.T) {
	dir := home(t)
	const secret = "correct horse battery"
	s := newScreen(t)
	done := s.start("wallet", "new", "savings")
	s.secretly("New passphrase for wallet savings: ", secret)
	s.secretly("The same again: ", secret)
	before := s.after(altScreen)
	shown := s.after("Press Enter when they are written down. ")
	words := map[string]string{}
	list := ""
	for _, m := range regexp.MustCompile(`(\d+)\. ([a-z]+)`).FindAllStringSubmatch(shown, -1) {
		words[m[1]] = m[2]
		list += m[2] + " "
	}
	if _, err := wallet.DecodeMnemonic(strings.TrimSpace(list)); err != nil || len(words) != 12 {
		t.Fatalf("%d words on the screen, %v", len(words), err)
	}
	if _, err := s.keyboard.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	s.after(mainScreen)
	after := ""
	for range 2 {
		after += s.after("Word ")
		n := s.after(" (not shown)")
		s.secretly(": ", words[n])
	}
	r := finish(t, s, done)
	after += s.text()
	if r.code != 0 || !strings.HasPrefix(r.out, "qp1p") || !strings.Contains(after, "backed up") {
		t.Fatalf("exit %d, out %q, screen %q", r.code, r.out, after)
	}
	if strings.Contains(before+shown+after+r.out, secret) {
		t.Error("the passphrase was echoed")
	}
	for _, w := range words {
		if regexp.MustCompile(`\b`+w+`\b`).MatchString(r.out) || strings.Contains(after, ". "+w) {
			t.Error("a word stands outside the alternate screen")
		}
	}
	info, err := wallet.Inspect(filepath.Join(dir, "xdg_data_home", "quipu", "wallets", "savings.json"))
	if err != nil || !info.BackedUp {
		t.Errorf("backed up: %v, %v", info.BackedUp, err)
	}
}

// TestTerminalRefuses: two different passphrases make nothing; a wrong word leaves the wallet not backed up.
func TestTerminalRefuses(t *testing.T) {
	dir := home(t)
	s := newScreen(t)
	done := s.start("wallet", "new", "savings")
	s.secretly("New passphrase for wallet savings: ", "one")
	s.secretly("The same again: ", "two")
	if r := finish(t, s, done); r.code != exitUsage || r.out != "" {
		t.Errorf("exit %d, out %q", r.code, r.out)
	}
	file := filepath.Join(dir, "xdg_data_home", "quipu", "wallets", "savings.json")
	if exists(file) {
		t.Error("a wallet was made")
	}
	genesis, _ := easyNetwork(t, dir, "easy")
	done = s.start("wallet", "new", "savings", "--no-passphrase", "--genesis", genesis)
	s.answer("Press Enter when they are written down. ", "")
	s.secretly(" (not shown): ", "zzz")
	if r := finish(t, s, done); r.code != 0 || !strings.HasPrefix(r.out, "tqp1p") {
		t.Errorf("exit %d, out %q", r.code, r.out)
	}
	s.after("not backed up")
	if info, err := wallet.Inspect(file); err != nil || info.BackedUp {
		t.Errorf("backed up: %v, %v", info.BackedUp, err)
	}
}

// TestTerminalInterrupted: Ctrl-C at a hidden prompt ends the program and leaves a terminal that echoes.
func TestTerminalInterrupted(t *testing.T) {
	home(t)
	s := newScreen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := s.startCtx(ctx, "wallet", "new", "savings")
	s.secretly("New passphrase for wallet savings: ", "typed")
	s.after("The same again: ")
	cancel()
	if r := finish(t, s, done); r.code != exitInterrupted || r.out != "" {
		t.Errorf("exit %d, out %q", r.code, r.out)
	}
	waitFor(t, "echo again", func() bool {
		mode, err := unix.IoctlGetTermios(int(s.terminal.Fd()), unix.TCGETS)
		return err == nil && mode.Lflag&unix.ECHO != 0
	})
}

// TestTerminalSend: the person sees the full address and says yes or no.
func TestTerminalSend(t *testing.T) {
	home(t)
	f := newFake(t)
	_, bob, err := (&app{found: discoverTestnet}).findWallet("bob", f.g)
	if err != nil {
		t.Fatal(err)
	}
	s := newScreen(t)
	for _, c := range []struct {
		answer string
		code   int
		sent   int
	}{{"", exitOther, 0}, {"n", exitOther, 0}, {"y", 0, 1}, {"Yes", 0, 2}} {
		done := s.start("send", "bob", "1", "--wait", "none")
		if seen := s.after("Send? [y/N] "); !strings.Contains(seen, bob.Address) || !strings.Contains(seen, "1 QPU + fee") {
			t.Errorf("asked without showing it: %q", seen)
		}
		if _, err := s.keyboard.WriteString(c.answer + "\n"); err != nil {
			t.Fatal(err)
		}
		if r := finish(t, s, done); r.code != c.code || f.submits() != c.sent || (r.out != "") != (c.code == 0) {
			t.Errorf("%q: exit %d, out %q, %d handed in", c.answer, r.code, r.out, f.submits())
		}
	}
}
