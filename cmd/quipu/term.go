package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"quipu/wallet"
)

// maxPassphrase bounds a passphrase, bytes.
const maxPassphrase = 1024

// terminal is the file descriptor of v if it is a terminal.
func terminal(v any) (int, bool) {
	f, ok := v.(*os.File)
	if !ok || f == nil || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// canAsk reports whether a person can be asked: they read err and type on in.
func (a *app) canAsk() bool {
	_, in := terminal(a.in)
	_, err := terminal(a.err)
	return in && err && !a.noInput
}

// live reports whether progress may be redrawn on err.
func (a *app) live() bool {
	_, ok := terminal(a.err)
	return ok && !a.quiet && os.Getenv("TERM") != "dumb"
}

// paint colours text for a terminal: code is an SGR parameter (ECMA-48 §8.3.117).
func (a *app) paint(code, text string) string {
	if _, ok := terminal(a.err); !ok || a.noColor || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// ask prints a question and reads one line. Ctrl-C ends it. canAsk must hold.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	return a.prompt(ctx, question, func(int) ([]byte, error) {
		if a.lines == nil {
			a.lines = bufio.NewReader(io.LimitReader(a.in, 1<<16))
		}
		line, err := a.lines.ReadString('\n')
		return []byte(strings.TrimSpace(line)), err
	})
}

// askHidden is ask without an echo.
func (a *app) askHidden(ctx context.Context, question string) ([]byte, error) {
	s, err := a.prompt(ctx, question, func(fd int) ([]byte, error) {
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(a.err)
		return b, err
	})
	return []byte(s), err
}

func (a *app) prompt(ctx context.Context, question string, read func(fd int) ([]byte, error)) (string, error) {
	fd, ok := terminal(a.in)
	if !ok {
		return "", errors.New("there is no terminal to ask on")
	}
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(a.err, question)
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() { // a read of a terminal can't be cancelled: after Ctrl-C the program ends with it
		text, err := read(fd)
		done <- answer{text, err}
	}()
	select {
	case got := <-done:
		if errors.Is(got.err, io.EOF) {
			return "", context.Canceled // Ctrl-D is a no
		}
		return string(got.text), got.err
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return "", errors.Join(context.Canceled, term.Restore(fd, before))
	}
}

// passphraseFlags are where a passphrase comes from. None of them carries one.
type passphraseFlags struct {
	file string
	fd   int
}

func (p *passphraseFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&p.file, "passphrase-file", "", "`FILE` with the passphrase on its first line; - is standard input")
	c.Flags().IntVar(&p.fd, "passphrase-fd", -1, "file descriptor `N` to read the passphrase from")
}

// passphrase gets the passphrase of a wallet: from --passphrase-file, --passphrase-fd, QUIPU_PASSPHRASE_FILE or a
// hidden prompt. A new one is asked for twice.
func (a *app) passphrase(ctx context.Context, p passphraseFlags, name string, isNew bool) ([]byte, error) {
	if p.file != "" && p.fd >= 0 {
		return nil, usageError("", "give --passphrase-file or --passphrase-fd, not both")
	}
	file := p.file
	if file == "" && p.fd < 0 {
		file = os.Getenv("QUIPU_PASSPHRASE_FILE")
	}
	switch {
	case file == "-":
		return firstLine(a.in, "standard input")
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, fail(exitLocked, "", "the passphrase of wallet %s can't be read: %w", name, err)
		}
		defer f.Close()
		return firstLine(f, file)
	case p.fd >= 0:
		f := os.NewFile(uintptr(p.fd), "passphrase")
		if f == nil {
			return nil, usageError("", "--passphrase-fd %d is no open file", p.fd)
		}
		defer f.Close()
		return firstLine(f, fmt.Sprintf("file descriptor %d", p.fd))
	case !a.canAsk():
		return nil, fail(exitLocked, "add --passphrase-file FILE", "wallet %s needs its passphrase, and there is nobody to ask", name)
	}
	if !isNew {
		return a.askHidden(ctx, fmt.Sprintf("Passphrase of wallet %s: ", name))
	}
	first, err := a.askHidden(ctx, fmt.Sprintf("New passphrase for wallet %s: ", name))
	if err != nil {
		return nil, err
	}
	second, err := a.askHidden(ctx, "The same again: ")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if string(first) != string(second) {
		return nil, usageError("", "the two passphrases differ; nothing was made")
	}
	return first, nil
}

// firstLine reads a passphrase: the first line, without its end.
func firstLine(r io.Reader, from string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassphrase+2))
	if err != nil {
		return nil, fail(exitLocked, "", "the passphrase can't be read from %s: %w", from, err)
	}
	for i, c := range b {
		if c == '\n' {
			b = b[:i]
			break
		}
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	if len(b) > maxPassphrase {
		return nil, fail(exitLocked, "", "the first line of %s is longer than %d bytes: is it the right file?", from, maxPassphrase)
	}
	if len(b) == 0 {
		return nil, fail(exitLocked, "", "the first line of %s is empty", from)
	}
	return b, nil
}

// unlock opens a wallet, asking for its passphrase if it has one.
func (a *app) unlock(ctx context.Context, p passphraseFlags, path string, info wallet.Info) (*wallet.Wallet, error) {
	var pass []byte
	if info.HasPassphrase {
		var err error
		if pass, err = a.passphrase(ctx, p, info.Name, false); err != nil {
			return nil, err
		}
		defer clear(pass)
	}
	return wallet.Open(path, pass)
}
