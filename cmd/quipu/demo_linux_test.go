package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// onlyLoopback makes this test binary bring the loopback interface of its fresh network namespace up before it is the
// program, with the demo's first part alone.
const onlyLoopback = "QUIPU_TEST_ONLY_LOOPBACK"

func init() {
	if os.Getenv(onlyLoopback) == "" {
		return
	}
	os.Unsetenv(onlyLoopback) // its nodes are born into the namespace as it then is
	demoPhases = demoPhases[:1]
	if err := loopbackUp(); err != nil {
		panic(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// TestDemoOnLoopbackAlone: in a network namespace that has nothing but the loopback interface the demo works: it needs
// no other, and can have sent nothing.
func TestDemoOnLoopbackAlone(t *testing.T) {
	tmp := demoHome(t)
	var out, errw bytes.Buffer
	cmd := exec.Command(os.Args[0], "demo", "--once")
	cmd.Env = append(os.Environ(), asProgram+"=1", onlyLoopback+"=1")
	cmd.Stdout, cmd.Stderr = &out, &errw
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 { // who isn't root may make one in a user namespace of their own
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Fatalf("exit %d\n%s%s", exit.ExitCode(), out.String(), errw.String())
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		t.Skipf("this system gives us no network namespace: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "1 of 1 parts held") || !strings.Contains(out.String(), "/ip4/127.0.0.1/tcp/4830") {
		t.Errorf("the demo printed:\n%s", out.String())
	}
	nothingLeft(t, tmp)
}
