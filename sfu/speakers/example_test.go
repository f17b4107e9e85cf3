package speakers_test

import (
	"fmt"
	"time"

	"anytime/sfu/speakers"
)

// Twenty microphones are open and three may be forwarded. One subscriber, on a watch, takes the strongest only.
func ExampleLoudest() {
	room := speakers.NewLoudest(speakers.LoudestConfig{Forwarded: 3})
	var microphones []*speakers.Microphone
	for range 20 {
		microphones = append(microphones, room.Add("", false))
	}

	const packet = 20 * time.Millisecond
	// When did packets of a microphone begin to reach those who take three, and the watch?
	heard, watch := map[int]time.Duration{}, map[int]time.Duration{}
	for now := time.Duration(0); now < 12*time.Second; now += packet {
		for i, m := range microphones {
			// Everybody hears the noise of their room. Microphone 4 speaks from 3 s to 5 s, microphone 7 from 6 s; microphone 9
			// claims to be the loudest all the time.
			level := uint8(70)
			speaks := i == 4 && now >= 3*time.Second && now < 5*time.Second || i == 7 && now >= 6*time.Second
			switch {
			case i == 9:
				level = 0
			case speaks && now/packet%10 < 7: // syllables and what lies between them
				level = 25
			}
			d := room.Packet(m, speakers.Packet{Level: level, HasLevel: true, Length: packet, Size: 60}, now)
			if _, known := heard[i]; speaks && d.Forward && !known {
				heard[i] = now
			}
			if _, known := watch[i]; speaks && d.For(1) && !known {
				watch[i] = now
			}
		}
	}
	fmt.Println("microphone 4:", heard[4], "on the watch:", watch[4])
	fmt.Println("microphone 7:", heard[7], "on the watch:", watch[7])
	c := room.Counts()
	fmt.Println("open:", c.Open, "gating:", c.Gating)
	// Output:
	// microphone 4: 3s on the watch: 3.04s
	// microphone 7: 6s on the watch: 6.04s
	// open: 20 gating: true
}
