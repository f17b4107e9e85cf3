package sfutest

import (
	"testing"

	"anytime/sfu"
)

func TestOpusBothWays(t *testing.T) {
	defer CheckGoroutines(t)()
	t.Run("room", func(t *testing.T) {
		n := New(t, nil)
		a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
		if _, err := a.Audio("TR_a"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Audio("TR_b"); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			c                 *Client
			other, id, stream string
		}{{a, "TR_b", "TR_b", "PA_b|stream-PA_b"}, {b, "TR_a", "TR_a", "PA_a|stream-PA_a"}} {
			if err := x.c.Participant.Subscribe(x.other); err != nil {
				t.Fatal(err)
			}
			r, err := x.c.AwaitPackets(x.other, 50)
			if err != nil {
				t.Fatal(err)
			}
			if r.ID != x.id || r.Stream != x.stream {
				t.Errorf("track %q in stream %q, want %q in %q", r.ID, r.Stream, x.id, x.stream)
			}
			s, err := r.Check(x.other, 0)
			if err != nil || s.Missing != 0 {
				t.Errorf("%s hears %s: %+v, %v", x.c.ID, x.other, s, err)
			}
		}
		for _, p := range n.Server.Stats().Participants {
			for _, tr := range p.Transports {
				// Towards an ICE-lite server Pion answers as the DTLS server, whose choice we aren't told.
				if tr.Target == sfu.Publisher && tr.SRTPProfile != "AEAD_AES_128_GCM" {
					t.Errorf("%s %v: SRTP profile %q", p.ID, tr.Target, tr.SRTPProfile)
				}
			}
		}
	})
}
