package testnet

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// parentVar tells a child the descriptor of the pipe that its supervisor holds the other end of.
const parentVar = "QUIPU_SUPERVISOR_FD"

// WatchParent makes a child of a supervisor stop when the supervisor is gone: the pipe named by the environment ends.
// Any other process returns at once. It is called once, before anything else runs.
func WatchParent() {
	fd, err := strconv.Atoi(os.Getenv(parentVar))
	os.Unsetenv(parentVar)
	if err != nil || fd < 3 {
		return
	}
	pipe := os.NewFile(uintptr(fd), "supervisor")
	if pipe == nil {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, pipe)
		terminateSelf()
		time.Sleep(5 * time.Second) // a clean stop takes less
		os.Exit(1)
	}()
}

// child is one process.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
	err  error         // why; read after done
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// exit says in a few words how an ended process ended.
func (c *child) exit() string {
	if c.err == nil {
		return "exit 0"
	}
	return c.err.Error()
}

// starter starts processes. All are started from one thread that lives as long as it does, since Linux sends the
// parent-death signal when the thread that forked ends.
type starter struct {
	jobs chan startJob
	pipe *os.File // our end; children hold the other
	far  *os.File
}

type startJob struct {
	cmd *exec.Cmd
	err chan error
}

func newStarter() (*starter, error) {
	far, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &starter{jobs: make(chan startJob), pipe: pipe, far: far}, nil
}

// run starts what is asked for until jobs is closed.
func (s *starter) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for j := range s.jobs {
		j.err <- j.cmd.Start()
	}
	s.pipe.Close()
	s.far.Close()
}

// start runs a program whose whole output goes to a capped log, and waits for it in the background.
func (s *starter) start(command, env []string, dir, logPath string) (*child, error) {
	log, err := openLog(logPath, maxLog)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(childEnv(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttr()
	cmd.WaitDelay = time.Second
	if runtime.GOOS != "windows" {
		cmd.ExtraFiles = []*os.File{s.far} // becomes descriptor 3
		cmd.Env = append(cmd.Env, parentVar+"=3")
	}
	job := startJob{cmd, make(chan error, 1)}
	s.jobs <- job
	if err := <-job.err; err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", command[0], err)
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		log.Close()
		close(c.done)
	}()
	return c, nil
}

// childEnv is our environment without what would speak to a node: it is told everything in flags.
func childEnv() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "QUIPU_") {
			out = append(out, v)
		}
	}
	return out
}
