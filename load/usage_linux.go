package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of the times in /proc (USER_HZ), 100 per second on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// usageOf reads what a process and its descendants use.
func usageOf(pid int) (Usage, error) {
	parents, err := children()
	if err != nil {
		return Usage{}, err
	}
	var sum Usage
	if err := addUsage(&sum, pid); err != nil {
		return Usage{}, fmt.Errorf("read the server's process: %w", err)
	}
	for queue := parents[pid]; len(queue) > 0; queue = queue[1:] {
		_ = addUsage(&sum, queue[0]) // it may have ended
		queue = append(queue, parents[queue[0]]...)
	}
	return sum, nil
}

// children returns the processes by their parent.
func children() (map[int][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	by := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := statFields(pid); err == nil {
			parent, _ := strconv.Atoi(f[1])
			by[parent] = append(by[parent], pid)
		}
	}
	return by, nil
}

// statFields reads /proc/PID/stat after the command's name, which may have spaces in it (proc_pid_stat(5)): the first field
// is the state.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 22 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	return f, nil
}

func addUsage(u *Usage, pid int) error {
	f, err := statFields(pid)
	if err != nil {
		return err
	}
	number := func(i int) uint64 { // counted as in proc_pid_stat(5), where the state is 3
		n, _ := strconv.ParseUint(f[i-3], 10, 64)
		return n
	}
	u.User += time.Duration(number(14)+number(16)) * clockTick // with the children that have ended
	u.System += time.Duration(number(15)+number(17)) * clockTick
	u.Threads += int(number(20))
	u.Memory += number(24) * uint64(os.Getpagesize())
	return nil
}

// ownUsage reads what this process uses.
func ownUsage() Usage {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return Usage{}
	}
	return Usage{User: time.Duration(r.Utime.Nano()), System: time.Duration(r.Stime.Nano())}
}
