package sfu

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pion/stun/v4"
)

// FuzzTCPFrames reads a byte stream in pieces of any size: the frames are those of the whole, and every one may be the first.
func FuzzTCPFrames(f *testing.F) {
	f.Add(framed(checkFor(f, "ours"), nil, []byte("a"), make([]byte, maxTCPFrame)), uint16(1))
	f.Add(framed(make([]byte, maxTCPFrame), make([]byte, maxTCPFrame), checkFor(f, "x")), uint16(3000))
	f.Add(framed(make([]byte, maxTCPFrame+1)), uint16(7))
	f.Add(append(framed([]byte("whole")), 0, 9, 1), uint16(2))
	f.Add(framed(stun.MustBuild(stun.BindingRequest, stun.NewUsername(":"), stun.NewUsername("a:b")).Raw), uint16(100))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint16) {
		var want [][]byte
		var bad bool
		for b := stream; len(b) >= frameHeader; {
			n := int(binary.BigEndian.Uint16(b))
			if bad = n > maxTCPFrame; bad || n > len(b)-frameHeader {
				break
			}
			if n > 0 {
				want = append(want, b[frameHeader:frameHeader+n])
			}
			b = b[frameHeader+n:]
		}
		frames := tcpFrames{b: make([]byte, frameHeader+maxTCPFrame)}
		var got int
		var failed error
		for rest := bytes.Clone(stream); failed == nil; {
			var b []byte
			if b, failed = frames.next(); b != nil {
				if got == len(want) || !bytes.Equal(b, want[got]) {
					t.Fatalf("frame %d is %x", got, b)
				}
				got++
				compareFragment(t, b)
				clear(b[:cap(b)]) // the owner may change it
				continue
			}
			if len(rest) == 0 || failed != nil {
				break
			}
			room := frames.room()
			if len(room) == 0 {
				t.Fatal("no room to read")
			}
			n := copy(room[:min(len(room), max(int(piece), 1))], rest)
			frames.filled(n)
			rest = rest[n:]
		}
		if got != len(want) || (failed != nil) != bad {
			t.Errorf("%d frames of %d, error %v", got, len(want), failed)
		}
	})
}

// compareFragment compares with Pion, which reads the same messages later.
func compareFragment(t *testing.T, b []byte) {
	ufrag := checkedFragment(b)
	if len(ufrag) > maxFragment {
		t.Fatalf("a fragment of %d bytes", len(ufrag))
	}
	var m stun.Message
	if ufrag == "" || stun.Decode(b, &m) != nil {
		return
	}
	username, err := m.Get(stun.AttrUsername)
	if err != nil || m.Type != stun.BindingRequest || !bytes.HasPrefix(username, []byte(ufrag+":")) {
		t.Errorf("%q of the user name %q of a %v, %v", ufrag, username, m.Type, err)
	}
}
