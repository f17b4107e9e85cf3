package main

import (
	"net"
	"testing"
)

// TestQuickListener: what it accepts over TCP is read and written by raw system calls.
func TestQuickListener(t *testing.T) {
	l, err := listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if _, ok := ours.(*quickConn); !ok {
		t.Errorf("a %T", ours)
	}
}
