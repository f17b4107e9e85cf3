package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestQuickConnections: they read, write, wait, time out and end as others do.
func TestQuickConnections(t *testing.T) {
	l, err := listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (ours net.Conn, theirs *net.TCPConn) {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if ours, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ours.Close() })
		return ours, c.(*net.TCPConn)
	}
	ours, theirs := pair()
	// More than the socket's buffers hold, so that both wait for each other.
	sent := bytes.Repeat([]byte("quick brown fox"), 1<<20)
	wrote := make(chan error, 1)
	go func() {
		n, err := ours.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		wrote <- err
	}()
	echoed := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(ours)
		echoed <- b
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came as others, %v", len(got), err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write(sent); err != nil {
		t.Fatal(err)
	}
	_ = theirs.CloseWrite()
	if b := <-echoed; !bytes.Equal(b, sent) {
		t.Errorf("%d of %d bytes came", len(b), len(sent))
	}
	if n, err := ours.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("at its end: %d, %v", n, err)
	}
	if n, err := ours.Read(nil); n != 0 || err != nil {
		t.Errorf("reading nothing: %d, %v", n, err)
	}

	ours, _ = pair()
	_ = ours.SetReadDeadline(time.Now().Add(time.Millisecond))
	var timeout net.Error
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("after the deadline: %v", err)
	}
	_ = ours.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if n, err := ours.Write(sent); !errors.Is(err, os.ErrDeadlineExceeded) || n == len(sent) {
		t.Errorf("writing what isn't read: %d, %v", n, err)
	}
	_ = ours.SetDeadline(time.Time{})
	read := make(chan error, 1)
	go func() {
		_, err := ours.Read(make([]byte, 1))
		read <- err
	}()
	_ = ours.Close()
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading one that is closed: %v", err)
	}
	if _, err := ours.Write(sent); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing to one that is closed: %v", err)
	}

	ours, theirs = pair()
	_ = theirs.SetLinger(0)
	_ = theirs.Close() // by RST
	var failed *net.OpError
	if _, err := ours.Read(make([]byte, 1)); !errors.As(err, &failed) || failed.Op != "read" {
		t.Errorf("reading one that was reset: %v", err)
	}
}
