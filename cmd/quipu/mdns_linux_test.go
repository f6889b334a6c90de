package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"quipu/rpc"
)

// mdnsInside says that this process is alone in a network namespace.
const mdnsInside = "QUIPU_TEST_MDNS_INSIDE"

// TestMDNS: in a network namespace of their own, whose loopback interface carries multicast, two nodes with --mdns that know
// nobody find each other, and one without it finds nobody.
func TestMDNS(t *testing.T) {
	if os.Getenv(mdnsInside) != "" {
		mdnsNodes(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMDNS$", "-test.v")
	cmd.Env = append(os.Environ(), mdnsInside+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 { // who isn't root may make one in a user namespace of their own
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		t.Skipf("this system gives us no network namespace: %v", err)
	case err != nil || !bytes.Contains(out.Bytes(), []byte("--- PASS: TestMDNS")):
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func mdnsNodes(t *testing.T) {
	if err := loopbackUp(); err != nil {
		t.Fatal(err)
	}
	if err := loopbackMulticast(); err != nil {
		t.Fatal(err)
	}
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "lan")
	var nodes []*rpc.Client
	for i, flags := range [][]string{{"--mdns"}, {"--mdns"}, nil} {
		p := startNode(t, append([]string{"--genesis", genesis, "--data-dir", filepath.Join(dir, strconv.Itoa(i)), "--discover"}, flags...)...)
		nodes = append(nodes, &rpc.Client{URL: p.url})
	}
	known := func(i int) int {
		book, err := nodes[i].PeerBook(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		list, err := nodes[i].PeerList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(book.Known) + len(list.Peers)
	}
	waitFor(t, "two nodes found each other over mDNS", func() bool { return known(0) > 1 && known(1) > 1 })
	if n := known(2); n > 0 {
		t.Errorf("a node without --mdns knows %d", n)
	}
}

func loopbackMulticast() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_MULTICAST)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
