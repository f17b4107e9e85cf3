package sfutest

import (
	"testing"

	"anytime/sfu"

	"github.com/pion/rtcp"
)

// TestAttackThousandsOfSources: one who makes us keep state for ever more sources is thrown out, and the others go on.
func TestAttackThousandsOfSources(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, bad, c := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_bad"), n.Join(t, "room", "PA_c")
	_, err := a.Video("TR_v")
	must(t, err)
	subscribe(t, c, "TR_v")
	_, err = c.AwaitPackets("TR_v", 10)
	must(t, err)
	for i := range uint32(6000) {
		if bad.sub.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: 1000 + i, MediaSSRC: 1}}) != nil {
			break // thrown out
		}
		if i%20 == 0 {
			_, err = c.AwaitPackets("TR_v", 1) // the network's buffers are small
			must(t, err)
		}
	}
	must(t, bad.AwaitState(sfu.Subscriber, sfu.Failed))
	r, err := c.AwaitPackets("TR_v", 60)
	must(t, err)
	if s, err := r.Check("TR_v", 0); err != nil || s.Missing > 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
