package sfu

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pion/stun/v4"
)

// TestKindOf is RFC 7983 section 7.
func TestKindOf(t *testing.T) {
	for first := range 256 {
		want := kindOther
		switch {
		case first <= 3:
			want = kindSTUN
		case first >= 20 && first <= 63:
			want = kindDTLS
		case first >= 128 && first <= 191:
			want = kindMedia
		}
		if got := kindOf([]byte{byte(first), 0}); got != want {
			t.Errorf("first byte %d: %d, want %d", first, got, want)
		}
	}
	if got := kindOf(nil); got != kindOther {
		t.Errorf("nothing: %d", got)
	}
}

// TestIsRTCP is RFC 5761 section 4: "RTP payload types in the range 64–95 MUST NOT be used".
func TestIsRTCP(t *testing.T) {
	for second := range 256 {
		if got, want := isRTCP([]byte{0x80, byte(second)}), second >= 128+64 && second <= 128+95; got != want {
			t.Errorf("second byte %d: %v", second, got)
		}
	}
	if isRTCP([]byte{0x80}) || isRTCP(nil) {
		t.Error("a packet without a second byte")
	}
}

func stunOf(t testing.TB, setters ...stun.Setter) []byte {
	t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func TestParseSTUN(t *testing.T) {
	password := stun.NewShortTermIntegrity("password")
	nominate := stun.RawAttribute{Type: stun.AttrUseCandidate}
	name := func(n string) stun.Setter { return stun.RawAttribute{Type: stun.AttrUsername, Value: []byte(n)} }
	request := stunOf(t, stun.BindingRequest, name("us:them"), password, stun.Fingerprint)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(request)
		b[at] = to
		return b
	}
	for what, x := range map[string]struct {
		b         []byte
		ok        bool
		fragment  string
		nominates bool
	}{
		"a check":              {request, true, "us", false},
		"a nomination":         {stunOf(t, stun.BindingRequest, name("us:them"), nominate, password), true, "us", true},
		"nominated afterwards": {stunOf(t, stun.BindingRequest, name("us:them"), password, nominate), true, "us", false},
		"named afterwards":     {stunOf(t, stun.BindingRequest, password, name("us:them")), true, "", false},
		"two names":            {stunOf(t, stun.BindingRequest, name("us:them"), name("others:them"), password), true, "us", false},
		"the first is none":    {stunOf(t, stun.BindingRequest, name("nobody"), name("us:them"), password), true, "", false},
		"no colon":             {stunOf(t, stun.BindingRequest, name("us")), true, "", false},
		"two colons":           {stunOf(t, stun.BindingRequest, name("us:them:too")), true, "us", false},
		"the longest":          {stunOf(t, stun.BindingRequest, name(strings.Repeat("u", maxFragment)+":t")), true, strings.Repeat("u", maxFragment), false},
		"too long":             {stunOf(t, stun.BindingRequest, name(strings.Repeat("u", maxFragment+1)+":t")), true, "", false},
		"an answer":            {stunOf(t, stun.BindingSuccess, password), true, "", false},
		"the header alone":     {stunOf(t, stun.BindingRequest), true, "", false},
		"without a cookie":     {change(4, 0x22), false, "", false},
		"a wrong length":       {change(3, request[3]+4), false, "", false},
		"cut off":              {request[:len(request)-1], false, "", false},
		"more behind it":       {append(bytes.Clone(request), 0), false, "", false},
		"half a header":        {request[:19], false, "", false},
		"nothing":              {nil, false, "", false},
		"a long attribute":     {change(stunHeader+3, 255), false, "", false},
	} {
		m, ok := parseSTUN(x.b)
		if ok != x.ok || ok && (string(m.fragment) != x.fragment || m.nominates != x.nominates) {
			t.Errorf("%s: %q, nominates %v, %v", what, m.fragment, m.nominates, ok)
		}
	}
	if f := checkedFragment(request); f != "us" {
		t.Errorf("a check is for %q", f)
	}
	if f := checkedFragment(stunOf(t, stun.BindingSuccess, name("us:them"))); f != "" {
		t.Errorf("an answer is for %q", f)
	}
	for class, want := range map[stun.MessageType]bool{stun.BindingSuccess: true, stun.BindingError: false, stun.BindingRequest: false} {
		if isSuccess(stunOf(t, class)) != want {
			t.Errorf("%v: success is %v", class, !want)
		}
	}
	if isSuccess([]byte{1, 1}) {
		t.Error("half a header is a success")
	}
}

// FuzzSTUN: whatever comes doesn't panic, is not changed, and is understood as Pion does.
func FuzzSTUN(f *testing.F) {
	f.Add(checkFor(f, "us"))
	f.Add(stunOf(f, stun.BindingRequest, stun.NewUsername("us:them"), stun.RawAttribute{Type: stun.AttrUseCandidate}))
	f.Add(stunOf(f, stun.BindingSuccess, &stun.XORMappedAddress{IP: []byte{1, 2, 3, 4}, Port: 5}, stun.NewShortTermIntegrity("p")))
	f.Add([]byte{0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, ok := parseSTUN(b)
		if fragment := checkedFragment(b); fragment != "" && fragment != string(m.fragment) {
			t.Errorf("a check for %q and for %q", fragment, m.fragment)
		}
		_ = isSuccess(b)
		if !bytes.Equal(b, before) {
			t.Error("changed")
		}
		if !ok {
			if len(m.fragment) > maxFragment {
				t.Error("a fragment that is too long")
			}
			return
		}
		their := stun.Message{Raw: b}
		if their.Decode() != nil {
			return // behind the integrity we don't look
		}
		if length := int(binary.BigEndian.Uint16(b[2:])); length != len(b)-stunHeader {
			t.Errorf("a message of %d bytes says %d", len(b), length)
		}
		if m.fragment != nil {
			if name, err := their.Get(stun.AttrUsername); err != nil || !bytes.HasPrefix(name, append(bytes.Clone(m.fragment), ':')) {
				t.Errorf("fragment %q, Pion has the name %q: %v", m.fragment, name, err)
			}
		}
		if m.nominates && !their.Contains(stun.AttrUseCandidate) {
			t.Error("nominates, but not for Pion")
		}
	})
}
