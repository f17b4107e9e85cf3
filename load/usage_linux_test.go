package load

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestUsage: what a process and its children use is counted, as near as /proc tells.
func TestUsage(t *testing.T) {
	own, before := ownUsage(), time.Now()
	first, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if first.Threads < 1 || first.Memory < 1<<20 {
		t.Errorf("%+v", first)
	}
	for now := ownUsage(); now.User+now.System-own.User-own.System < 100*time.Millisecond; now = ownUsage() {
		if time.Since(before) > 20*time.Second {
			t.Fatal("no CPU time passes")
		}
	}
	second, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used := second.User + second.System - first.User - first.System; used < 80*time.Millisecond || used > time.Second {
		t.Errorf("100 ms of work count as %v", used)
	}

	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	with, err := usageOf(os.Getpid())
	if err != nil || with.Threads <= second.Threads {
		t.Errorf("with a child %+v, without %+v, %v", with, second, err)
	}
	in.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that isn't there is measured")
	}
}
