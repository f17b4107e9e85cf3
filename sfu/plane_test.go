package sfu

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// segmentOf is a packet in the three parts that the egress has it in.
func segmentOf(ssrc uint32, sequence uint16, header, prefix, payload int) segment {
	s := segment{header: make([]byte, header), prefix: bytes.Repeat([]byte{1}, prefix), payload: bytes.Repeat([]byte{2}, payload)}
	s.header[0], s.header[1] = 0x80, 96
	if header > 12 { // an extension
		s.header[0] |= 0x10
		s.header[12], s.header[13] = 0xbe, 0xde
		binary.BigEndian.PutUint16(s.header[14:], uint16(header/4-4))
	}
	binary.BigEndian.PutUint16(s.header[2:], sequence)
	binary.BigEndian.PutUint32(s.header[8:], ssrc)
	return s
}

// TestRunsArriveAsTheyWere: packets of any sizes, those at the limits among them, arrive one by one, in order, protected under our
// keys, whatever runs they make.
func TestRunsArriveAsTheyWere(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	sink := &planeSink{plane: p.plane}
	if n := sink.sendRun([]segment{segmentOf(1, 1, 12, 0, 10)}); n != 0 || len(w.took()) != 0 {
		t.Errorf("%d packets left without keys", n)
	}
	client := p.clientOpens(t)
	p.lead(addressOf(1), false)
	random := rand.New(rand.NewPCG(7, 8))
	sequence := uint16(65500)
	for round := range 300 {
		var run []segment
		for range 1 + random.IntN(maxRun) {
			sequence++
			size := []int{1, 100, 100, 100, 101, 1200, 1200, largePacket}[random.IntN(8)]
			prefix := random.IntN(2) * random.IntN(maxPrefix+1)
			run = append(run, segmentOf(uint32(random.IntN(2)), sequence, []int{12, 24, maxHeader}[random.IntN(3)], prefix, size))
		}
		if n := sink.sendRun(run); n != len(run) {
			t.Fatalf("round %d: %d of %d packets left", round, n, len(run))
		}
		sent := w.took()
		if len(sent) != len(run) {
			t.Fatalf("round %d: %d datagrams, want %d", round, len(sent), len(run))
		}
		for i, d := range sent {
			want := bytes.Join([][]byte{run[i].header, run[i].prefix, run[i].payload}, nil)
			got, err := client.DecryptRTP(nil, d.b, nil)
			if err != nil || d.to != addressOf(1) || !bytes.Equal(got, want) {
				t.Fatalf("round %d: packet %d to %v is another one: %v", round, i, d.to, err)
			}
		}
	}
}

// clientOpens lets the handshake be over, and returns the context with which the client opens what we send.
func (p *muxPeer) clientOpens(t testing.TB) *srtp.Context {
	t.Helper()
	keys := &handshakeKeys{master: bytes.Clone(p.keys.master), client: p.keys.client, server: p.keys.server, suite: p.keys.suite, profile: p.keys.profile}
	profile, _, theirs, err := keys.derive()
	must(t, err)
	p.start()
	c, err := srtp.CreateContext(theirs.key, theirs.salt, srtp.ProtectionProfile(profile))
	must(t, err)
	return c
}

func TestReportsAreProtected(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	client := p.clientOpens(t)
	p.lead(addressOf(1), false)
	for range 3 {
		must(t, p.report([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 2}}))
	}
	seen := map[string]bool{}
	for _, d := range w.took() {
		seen[string(d.b[len(d.b)-4:])] = true // the index
		b, err := client.DecryptRTCP(nil, d.b, nil)
		must(t, err)
		if pkts, err := rtcp.Unmarshal(b); err != nil || len(pkts) != 1 {
			t.Errorf("%v, %v", pkts, err)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d indexes, want 3", len(seen))
	}
}
