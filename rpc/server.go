package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// DefaultAddr is where a node's HTTP listener is unless told otherwise.
const DefaultAddr = "127.0.0.1:4821"

const (
	maxConns      = 256 // open connections; more wait to be accepted
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second // to send a request's body
	writeTimeout  = 60 * time.Second // to take an answer
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 2 * time.Second // for calls under way when the server stops
	callTimeout   = 20 * time.Second
	maxHeader     = 16 << 10
)

// ErrAddrInUse is in the error of Listen when another program holds the port.
var ErrAddrInUse = errors.New("address already in use")

// Listen binds addr, a host:port. It refuses an address that other machines reach unless allowRemote. An error is one
// sentence that says what to type.
func Listen(addr string, allowRemote bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("HTTP address %q is no HOST:PORT: use --http %s", addr, DefaultAddr)
	}
	if ip := net.ParseIP(host); !allowRemote && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("HTTP address %s can be reached from other machines and is refused: use --http %s, and a tunnel (ssh -L) or a reverse proxy to reach it from elsewhere", addr, DefaultAddr)
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("HTTP %w: %s is taken by another program: stop it, or choose another port with --http HOST:PORT", ErrAddrInUse, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("HTTP address %s can't be listened on: %w", addr, err)
	}
	return ln, nil
}

// Config is what a server serves. Only Methods is needed; what is nil or empty isn't served.
type Config struct {
	Methods     []Entry
	TokenFile   string   // written at New, removed when Serve ends; without it admin methods are refused
	AllowHosts  []string // further names in the Host header: the machine's name, a reverse proxy's
	AllowRemote bool     // the listener may be reached from other machines: every call needs the token
	Events      EventSource
	Health      func() Health
	Metrics     *prometheus.Registry    // the node's own; the server adds quipu_rpc_*
	Page        http.Handler            // at / and below
	Extra       map[string]http.Handler // by path: /status.txt, /api/state
	Log         *slog.Logger
	CallTimeout time.Duration // of one method call; 0 means 20 s
}

// Validate reports what no server can be made of.
func (c *Config) Validate() error {
	seen := map[string]bool{}
	for _, e := range c.Methods {
		if e.call == nil || e.Name == "" || seen[e.Name] {
			return fmt.Errorf("rpc: method %q is empty or stands twice", e.Name)
		}
		seen[e.Name] = true
	}
	if c.AllowRemote && c.TokenFile == "" {
		return fmt.Errorf("rpc: listening for other machines needs a token file")
	}
	return nil
}

// Server answers HTTP. New makes it, Serve runs it.
type Server struct {
	cfg      Config
	ln       net.Listener
	methods  map[string]Entry
	token    string
	handler  http.Handler
	streams  chan struct{} // one entry a reader of /events
	stopping chan struct{} // closed when Serve's context ends
	conns    sync.WaitGroup
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// New makes a server on a listener that is bound already, so that the port is known, and writes a fresh token. On an
// error the listener stays open.
func New(cfg Config, ln net.Listener) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = callTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	s := &Server{cfg: cfg, ln: ln, methods: map[string]Entry{}, streams: make(chan struct{}, maxStreams), stopping: make(chan struct{})}
	for _, e := range append(slices.Clone(cfg.Methods), discoverEntry(cfg.Methods)) {
		s.methods[e.Name] = e
	}
	s.calls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quipu_rpc_requests_total", Help: "RPC calls by method and outcome.",
	}, []string{"method", "code"})
	s.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "quipu_rpc_request_seconds", Help: "Time taken by RPC calls.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
	}, []string{"method"})
	for _, c := range []prometheus.Collector{s.calls, s.seconds} {
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("rpc: %w", err)
		}
	}
	if cfg.TokenFile != "" {
		var err error
		if s.token, err = newToken(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	s.handler = s.routes()
	return s, nil
}

// Addr is the address listened on, and URL the same as people type it.
func (s *Server) Addr() string { return s.ln.Addr().String() }
func (s *Server) URL() string  { return "http://" + s.Addr() }

// Serve answers until ctx ends, then lets calls under way finish within 2 s, closes the listener and returns when
// nothing of it runs any more. It returns nil unless the listener failed before. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		// One goroutine a connection: it starts after StateNew is told and ends by telling StateClosed.
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.conns.Done()
			}
		},
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(netutil.LimitListener(s.ln, maxConns)) }()
	var err error
	select {
	case err = <-failed:
		close(s.stopping)
	case <-ctx.Done():
		close(s.stopping) // streams end now, or Shutdown would wait for them
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		_ = srv.Shutdown(grace)
		cancel()
		<-failed
	}
	srv.Close()
	s.conns.Wait()
	if s.token != "" {
		removeToken(s.cfg.TokenFile, s.token)
	}
	return err
}

// Handler is what Serve answers with, for tests over httptest.
func (s *Server) Handler() http.Handler { return s.handler }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /rpc", http.HandlerFunc(s.serveRPC))
	mux.Handle("GET /rpc", http.HandlerFunc(s.serveRPC)) // says how to ask; the page would take it otherwise
	if s.cfg.Events != nil {
		mux.Handle("GET /events", s.closed(http.HandlerFunc(s.serveEvents)))
	}
	if s.cfg.Health != nil {
		mux.Handle("GET /health/livez", serveHealth(func() []Check { return s.cfg.Health().Live }))
		mux.Handle("GET /health/readyz", serveHealth(func() []Check { return s.cfg.Health().Ready }))
	}
	mux.Handle("GET /metrics", s.closed(promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4})))
	for path, h := range s.cfg.Extra {
		mux.Handle("GET "+path, s.closed(h))
	}
	if s.cfg.Page != nil {
		mux.Handle("GET /", s.cfg.Page)
	}
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "refused: this request was sent by a page of another site", http.StatusForbidden)
	}))
	return s.outermost(s.checkHost(cross.Handler(mux)))
}

// outermost sets what every answer carries.
func (s *Server) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		next.ServeHTTP(w, r)
	})
}

// contentSecurityPolicy lets the page load its own files and talk to this node, and nothing else.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// checkHost refuses requests whose Host doesn't name this machine: a page on the web may have its own name resolve to
// 127.0.0.1 and would then pass as the same origin (DNS rebinding). A port in Host isn't compared, so that a tunnel
// from another local port works; what protects is the name.
func (s *Server) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.hostAllowed(r) {
			http.Error(w, fmt.Sprintf("refused: the Host header %.100q doesn't name this node; if you trust that name, start the node with --allow-host NAME", r.Host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) hostAllowed(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") || slices.ContainsFunc(s.cfg.AllowHosts, func(a string) bool { return strings.EqualFold(a, host) }) {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.Equal(net.IPv4(127, 0, 0, 1)) || ip.Equal(net.IPv6loopback) {
		return true
	}
	// The address this connection came in on: with a wildcard bind the listener's own address says nothing.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}

// closed asks for the token where the listener can be reached from other machines.
func (s *Server) closed(next http.Handler) http.Handler {
	if !s.cfg.AllowRemote {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := s.checkToken(r); e != nil {
			http.Error(w, e.Error(), tokenStatus(e))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkToken is nil if the request carries the token of this start.
func (s *Server) checkToken(r *http.Request) *Error {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case s.token == "":
		return Errorf(NameForbidden, "", "this server has no token, so nobody may call admin methods")
	case !strings.EqualFold(scheme, "Bearer") || given == "":
		return Errorf(NameUnauthorized, "add --rpc-token-file "+s.cfg.TokenFile+"; over HTTP, \"Authorization: Bearer\" and what is in that file", "this call needs the node's token")
	case !sameToken(strings.TrimSpace(given), s.token):
		return Errorf(NameForbidden, "read "+s.cfg.TokenFile+" anew: the token changes at each start", "the token is wrong")
	}
	return nil
}

func tokenStatus(e *Error) int {
	if e.Data.Name == NameUnauthorized {
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

// readBody reads a whole request body of at most MaxBody bytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer rc.SetReadDeadline(time.Time{}) // it would else end the request's context later
	return io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
}
