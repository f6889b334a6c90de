package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxResponse bounds an answer, bytes: a batch's limit and the largest single one on top.
const maxResponse = 128 << 20

// Client calls one server. The zero Timeout means 30 s.
type Client struct {
	URL       string        // http://127.0.0.1:4821
	Source    string        // where URL came from, for errors: "--rpc", "$QUIPU_RPC", "the running test network", "default"
	TokenFile string        // sent only after the server asked for it
	Timeout   time.Duration // of one call
}

// Unreachable is when no server answers at all: nothing was carried out.
type Unreachable struct {
	URL, Source string
	Err         error
}

func (e *Unreachable) Error() string {
	from := ""
	if e.Source != "" {
		from = " (from " + e.Source + ")"
	}
	return fmt.Sprintf("no node answers at %s%s: %v\nstart one with `quipu node run`, or name another with --rpc URL", e.URL, from, plainDial(e.Err))
}

func (e *Unreachable) Unwrap() error { return e.Err }

// NoAnswer is when the server was reached and then gave no answer, in time or at all: the outcome is unknown.
// errors.Is(err, context.DeadlineExceeded) tells a timeout from a connection that broke.
type NoAnswer struct {
	URL, Method string
	Err         error
}

func (e *NoAnswer) Error() string {
	return fmt.Sprintf("%s at %s gave no answer, the outcome is unknown: %v", e.Method, e.URL, e.Err)
}

func (e *NoAnswer) Unwrap() error { return e.Err }

// HTTPError is an answer that is no JSON-RPC: the Host check, or another program on that port.
type HTTPError struct {
	URL    string
	Status int
	Text   string // the first line
}

func (e *HTTPError) Error() string {
	return fmt.Sprintf("%s answered HTTP %d: %s", e.URL, e.Status, e.Text)
}

var transport = &http.Transport{
	Proxy:               http.ProxyFromEnvironment, // never used for loopback
	DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
	MaxIdleConnsPerHost: 8,
	IdleConnTimeout:     30 * time.Second,
}

// httpClient follows no redirect: a token must not travel on.
var httpClient = &http.Client{
	Transport:     transport,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Call calls a method with named parameters (a struct or map; nil for none) and decodes its result, unless result is
// nil. Errors: *Unreachable, *NoAnswer, *Error, *HTTPError, the context's, or one about the token file.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	if params == nil {
		params = NoParams{}
	}
	text, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("%s: parameters: %w", method, err)
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": json.RawMessage(text)})
	if err != nil {
		return err
	}
	err = c.post(ctx, method, body, "", result)
	if Is(err, NameUnauthorized) && c.TokenFile != "" {
		token, terr := readToken(c.TokenFile)
		if terr != nil {
			return terr
		}
		return c.post(ctx, method, body, token, result)
	}
	return err
}

func (c *Client) post(ctx context.Context, method string, body []byte, token string, result any) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	inner, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := c.request(inner, http.MethodPost, "/rpc", token, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := c.do(req)
	var other *HTTPError
	var op *net.OpError
	switch {
	case err == nil:
	case errors.As(err, &other):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &op) && op.Op == "dial":
		return &Unreachable{URL: c.URL, Source: c.Source, Err: err}
	case inner.Err() != nil:
		return &NoAnswer{URL: c.URL, Method: method, Err: fmt.Errorf("%w after %s", context.DeadlineExceeded, timeout)}
	default:
		return &NoAnswer{URL: c.URL, Method: method, Err: plainDial(err)}
	}
	var reply struct {
		JSONRPC string          `json:"jsonrpc"`
		Result  json.RawMessage `json:"result"`
		Error   *Error          `json:"error"`
	}
	if err := json.Unmarshal(answer.body, &reply); err != nil || reply.JSONRPC != "2.0" {
		return &HTTPError{URL: c.URL, Status: answer.status, Text: firstLine(answer.body)}
	}
	if reply.Error != nil {
		return reply.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Result, result); err != nil {
		return fmt.Errorf("%s at %s: the answer is not understood, is it a newer version? %w", method, c.URL, err)
	}
	return nil
}

// Events calls fn for every event after seq as it happens, until ctx ends, fn fails or the connection breaks; it
// returns why, never nil. To go on, call it again with the last Seq seen.
func (c *Client) Events(ctx context.Context, seq uint64, fn func(Event) error) error {
	req, err := c.request(ctx, http.MethodGet, "/events", "", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Last-Event-ID", strconv.FormatUint(seq, 10))
	resp, err := httpClient.Do(req)
	if err != nil {
		return c.ended(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return &HTTPError{URL: c.URL, Status: resp.StatusCode, Text: firstLine(text)}
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	isGap := false
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			isGap = false
		}
		if line == "event: gap" {
			isGap = true
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || isGap {
			continue
		}
		var e Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("events from %s: %w", c.URL, err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return c.ended(ctx, err)
	}
	return c.ended(ctx, io.EOF)
}

func (c *Client) request(ctx context.Context, verb, path, token string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, verb, strings.TrimSuffix(c.URL, "/")+path, body)
	if err != nil || (req.URL.Scheme != "http" && req.URL.Scheme != "https") || req.URL.Host == "" {
		return nil, &Unreachable{URL: c.URL, Source: c.Source, Err: errors.New("that is no http:// or https:// URL")}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

type answer struct {
	status int
	body   []byte
}

func (c *Client) do(req *http.Request) (answer, error) {
	resp, err := httpClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return answer{}, err
	}
	if len(body) > maxResponse {
		return answer{}, &HTTPError{URL: c.URL, Status: resp.StatusCode, Text: "an answer too large to read"}
	}
	return answer{resp.StatusCode, body}, nil
}

func (c *Client) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Unreachable{URL: c.URL, Source: c.Source, Err: err}
}

// plainDial strips the addresses net and url errors repeat.
func plainDial(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if len(line) > 300 {
		line = line[:300]
	}
	if line == "" {
		return "(empty)"
	}
	return line
}
