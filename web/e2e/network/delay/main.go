//go:build linux

// Command delay joins two TUN devices by a link that carries each packet so many milliseconds later, in either direction.
// It is for network namespaces on kernels that have no netem.
//
//	delay NEAR FAR DELAY     such as: delay near far 30ms
//
// It makes both devices in its own namespace, prints "ready" and runs until its input ends; the devices end with it. Either
// device may be moved to another namespace meanwhile. Each line of the input is a new delay, for packets that come from then
// on. Once a second it prints how late the latest packet left, beyond the delay, in milliseconds, and how many packets left:
//
//	late 0.3 packets 841
//
// What arrives while 16384 packets of a direction are on their way is dropped, and ends the program: no test means that.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	mtu      = 1500
	capacity = 16384
)

// parcel is a packet on its way.
type parcel struct {
	due   time.Time
	bytes []byte
}

// wire is one link, both directions.
type wire struct {
	delay   atomic.Int64 // nanoseconds
	packets atomic.Int64
	late    atomic.Int64 // nanoseconds: the most since it was read last
}

func main() {
	if len(os.Args) != 4 {
		fail("usage: delay NEAR FAR DELAY")
	}
	w := &wire{}
	w.set(os.Args[3])
	near, far := open(os.Args[1]), open(os.Args[2])
	go w.carry(near, far)
	go w.carry(far, near)
	go w.report()
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		w.set(lines.Text())
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "delay: "+format+"\n", args...)
	os.Exit(1)
}

// set changes the delay: 0 s to 10 s.
func (w *wire) set(text string) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 10*time.Second {
		fail("%q is no delay of 0s to 10s", text)
	}
	w.delay.Store(int64(d))
}

// open makes a TUN device: IP packets without a header before them.
func open(name string) *os.File {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		fail("opening /dev/net/tun: %v", err)
	}
	// struct ifreq of <linux/if.h>: the name, then the flags.
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:15], name)
	request.flags = syscall.IFF_TUN | syscall.IFF_NO_PI
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		fail("making the device %s: %v", name, errno)
	}
	return os.NewFile(uintptr(fd), name)
}

// carry takes packets from one device to the other until a device is gone.
func (w *wire) carry(from, to *os.File) {
	way := make(chan parcel, capacity)
	go w.deliver(way, to)
	for {
		b := make([]byte, mtu)
		n, err := from.Read(b)
		if err != nil {
			fail("reading %s: %v", from.Name(), err)
		}
		select {
		case way <- parcel{time.Now().Add(time.Duration(w.delay.Load())), b[:n]}:
		default:
			fail("%d packets wait for %s", capacity, to.Name())
		}
	}
}

func (w *wire) deliver(way <-chan parcel, to *os.File) {
	for p := range way {
		time.Sleep(time.Until(p.due))
		late := int64(time.Since(p.due))
		for {
			most := w.late.Load()
			if late <= most || w.late.CompareAndSwap(most, late) {
				break
			}
		}
		// A device that is down takes nothing: so does a cable that is not plugged in.
		if _, err := to.Write(p.bytes); err == nil {
			w.packets.Add(1)
		}
	}
}

func (w *wire) report() {
	for range time.Tick(time.Second) {
		fmt.Printf("late %.1f packets %d\n", time.Duration(w.late.Swap(0)).Seconds()*1000, w.packets.Swap(0))
	}
}
