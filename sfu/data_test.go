package sfu

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"
)

// scriptedMessages is read as a detached data channel is: what doesn't fit stays the next message.
type scriptedMessages [][]byte

func (s *scriptedMessages) Read(b []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	next := (*s)[0]
	if len(next) > len(b) {
		return 0, io.ErrShortBuffer
	}
	*s = (*s)[1:]
	return copy(b, next), nil
}

// TestReadMessages: messages of all sizes that are taken come as they are, and a larger one ends the reading.
func TestReadMessages(t *testing.T) {
	sizes := []int{0, 1, smallMessage, smallMessage + 1, MaxData, 5}
	var script scriptedMessages
	for i, n := range sizes {
		script = append(script, bytes.Repeat([]byte{byte('a' + i)}, n))
	}
	want := bytes.Join(script, []byte("|"))
	script = append(script, make([]byte, MaxData+1), []byte("after it"))
	var got [][]byte
	if err := readMessages(&script, math.MaxInt, func(b []byte) { got = append(got, b) }); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("it ended with %v", err)
	}
	if !bytes.Equal(bytes.Join(got, []byte("|")), want) {
		t.Errorf("%d messages came, or other ones", len(got))
	}
	script = scriptedMessages{[]byte("last")}
	if err := readMessages(&script, math.MaxInt, func([]byte) {}); !errors.Is(err, io.EOF) || len(script) > 0 {
		t.Errorf("it ended with %v", err)
	}
}
