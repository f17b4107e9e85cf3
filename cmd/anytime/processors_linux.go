package main

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"time"
)

// followLoad sets the number of processors until ctx ends, unless the environment says how many to use (GOMAXPROCS).
func followLoad(ctx context.Context) {
	all := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") != "" || all == 1 {
		return
	}
	p := processors{all: all, used: all}
	ticks := time.NewTicker(processorTick)
	defer ticks.Stop()
	was, at := cpuTime(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		cpu, now := cpuTime(), time.Now()
		before := p.used
		if before == p.all {
			p.all = runtime.GOMAXPROCS(0) // follows the container's limit
			p.used = p.all
		}
		switch p.tick(float64(cpu-was) / float64(max(now.Sub(at), 1))) {
		case before:
		case p.all:
			runtime.SetDefaultGOMAXPROCS()
		default:
			runtime.GOMAXPROCS(p.used)
		}
		was, at = cpu, now
	}
}

// cpuTime is the process's, user and system.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
