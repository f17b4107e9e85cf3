package speakers

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"anytime/sfu/speakerstest"
)

const frame = speakerstest.Frame

// TestRoomOf200: the target is the right three at least 98 % of the time, and a new speaker within 100 ms at the 99th
// percentile of all turns.
func TestRoomOf200(t *testing.T) {
	seeds, length, percentile := uint64(6), 5*time.Minute, 99
	if testing.Short() { // too few turns for the 99th
		seeds, length, percentile = 2, 2*time.Minute, 95
	}
	for _, jitter := range []time.Duration{0, 30 * ms} {
		for _, n := range []int{3, 2, 1} {
			var all speakerstest.Outcome
			swaps := uint64(0)
			seeds := seeds
			if n < 3 {
				seeds = 1
			}
			for seed := range seeds {
				l := NewLoudest(LoudestConfig{})
				o := play(speakerstest.NewRoom(seed, length), l, n, jitter)
				if o.Mean > float64(n) || o.MissingMost > 3 {
					t.Errorf("%.3f forwarded on average, and at most %d without level", o.Mean, o.MissingMost)
				}
				all.Add(&o)
				swaps += l.Counts().Swaps
			}
			share := func(v, of int) float64 { return 100 * float64(v) / float64(of) }
			right := share(all.Right, all.Frames)
			liars, usurped := all.SpoofShare/float64(seeds), all.Usurped/float64(seeds)
			perMinute := float64(swaps) / length.Minutes() / float64(seeds)
			t.Logf("the loudest %d, jitter up to %3v: right %.2f %% of the time (nothing granted: %.2f %%); %d turns begin to be heard "+
				"within %v p50, %v p95, %v p99; %.2f %% of talk is lost; liars hold %.3f slots on average, %.5f at a talker's cost; %.0f swaps per minute",
				n, 6*jitter, right, share(all.Strict, all.Frames), len(all.Latencies), all.Latency(50), all.Latency(95), all.Latency(99),
				share(all.Clipped, all.Talk), liars, usurped, perMinute)
			if n < 3 {
				if right < 95 {
					t.Errorf("a subscriber who takes %d is served %.2f %% of the time", n, right)
				}
				continue
			}
			if right < 98 || all.Latency(percentile) > 100*ms {
				t.Errorf("the target is missed")
			}
			if liars > 0.3 || usurped > 0.001 {
				t.Errorf("liars hold too much")
			}
		}
	}
}

// play runs the room through a selection, for one who takes n microphones.
func play(r *speakerstest.Room, l *Loudest, n int, jitter time.Duration) speakerstest.Outcome {
	mics := make([]*Microphone, len(r.Scripts))
	forwarded := make([][]bool, len(r.Scripts))
	for i := range mics {
		mics[i] = l.Add("", false)
		forwarded[i] = make([]bool, r.Frames)
	}
	r.Each(jitter, func(who, k int, at time.Duration) {
		f := r.Scripts[who][k]
		forwarded[who][k] = l.Packet(mics[who], Packet{Level: f.Level, HasLevel: !f.NoLevel, Voice: f.Voice, HasVoice: who%2 == 0,
			Length: frame, Size: f.Size}, at).For(n)
	})
	return r.Judge(forwarded, n)
}

// hall is a selection in simulated time with n microphones, of which only those told to send.
type hall struct {
	t    *testing.T
	l    *Loudest
	mics []*Microphone
	now  time.Duration
}

func newHall(t *testing.T, cfg LoudestConfig, n int) *hall {
	h := &hall{t: t, l: NewLoudest(cfg)}
	for range n {
		h.mics = append(h.mics, h.l.Add("", false))
	}
	h.run(2*time.Second, nil)
	return h
}

// voice is a level that varies as that of speech does: syllables of 120 ms, dips of 60.
func voice(loudness uint8) func(now time.Duration) Packet {
	return func(now time.Duration) Packet {
		level := loudness + uint8(now/frame%3)
		if now/frame%9 >= 6 {
			level = loudness + 25
		}
		return Packet{Level: level, HasLevel: true, Size: 60}
	}
}

// hum is a level that doesn't vary.
func hum(level uint8) func(now time.Duration) Packet {
	return func(time.Duration) Packet {
		return Packet{Level: level, HasLevel: true, Voice: true, HasVoice: true, Size: 60}
	}
}

// run lets time pass. Microphones not named hear silence. It returns how many packets of each were forwarded, as a share.
func (h *hall) run(d time.Duration, sounds map[int]func(time.Duration) Packet) []float64 {
	h.t.Helper()
	out := make([]float64, len(h.mics))
	for end := h.now + d; h.now < end; h.now += frame {
		for i, m := range h.mics {
			p := Packet{Level: 80, HasLevel: true, Size: 20}
			if f := sounds[i]; f != nil {
				p = f(h.now)
			}
			if h.l.Packet(m, p, h.now).Forward {
				out[i] += float64(frame) / float64(d)
			}
		}
		if len(h.l.slots) > cap(h.l.slots) || len(h.l.exempt.places) > h.l.cfg.Exempt || len(h.l.unlevelled.places) > h.l.cfg.Unlevelled {
			h.t.Fatal("over the limit")
		}
	}
	return out
}

type sounds = map[int]func(time.Duration) Packet

func TestSmallRooms(t *testing.T) {
	h := newHall(t, LoudestConfig{}, 8)
	for i, share := range h.run(time.Second, sounds{1: voice(20)}) {
		if share < 0.999 {
			t.Errorf("microphone %d of 8: %.2f forwarded", i, share)
		}
	}
	h.mics = append(h.mics, h.l.Add("", false))
	h.run(time.Second, nil)
	got := h.run(time.Second, sounds{1: voice(20)})
	if got[1] < 0.999 || got[2] > 0 || !h.l.Counts().Gating || h.l.Counts().Open != 9 || h.l.Counts().Gated == 0 {
		t.Errorf("9 microphones: %v %+v", got, h.l.Counts())
	}
	// It ends only when a quarter fewer are open.
	h.l.SetMuted(h.mics[8], true)
	h.l.SetMuted(h.mics[8], true)
	h.l.Remove(h.mics[7])
	h.l.Remove(h.mics[7])
	if c := h.l.Counts(); !c.Gating || c.Open != 7 {
		t.Errorf("%+v", c)
	}
	h.l.Remove(h.mics[6])
	if got := h.run(time.Second, nil); h.l.Counts().Gating || got[2] < 0.999 || got[6] > 0 || got[7] > 0 || got[8] > 0 {
		t.Errorf("%v %+v", got, h.l.Counts())
	}
	h.l.Remove(h.mics[8]) // muted
	if c := h.l.Counts(); c.Open != 6 {
		t.Errorf("%+v", c)
	}
}

func TestFalseLevels(t *testing.T) {
	unvoiced := func(now time.Duration) Packet {
		p := voice(35)(now)
		p.HasVoice = true
		if now/time.Second%2 == 0 {
			return Packet{Level: 50, HasLevel: true, HasVoice: true, Voice: true, Size: 60}
		}
		return p
	}
	small := func(now time.Duration) Packet {
		p := voice(10)(now)
		if now/frame%100 >= 80 { // it even pauses to breathe
			p.Level = 80
		}
		p.Voice, p.HasVoice, p.Size = true, true, 3
		return p
	}
	short := func(now time.Duration) Packet {
		p := voice(10)(now)
		p.Level = uint8(now / frame & 1 * 60)
		return p
	}
	for name, lie := range map[string]func(time.Duration) Packet{
		"0 dBov": hum(0), "20 dBov": hum(20), "the payload of silence": small, "unvoiced": unvoiced, "every other packet": short,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHall(t, LoudestConfig{}, 20)
			lies := sounds{10: lie, 11: lie, 12: lie, 13: lie}
			h.run(10*time.Second, lies)
			lies[1], lies[2], lies[3] = voice(35), voice(30), voice(40)
			h.run(100*ms, lies)
			got := h.run(20*time.Second, lies)
			for i := 1; i <= 3; i++ {
				if got[i] < 0.99 {
					t.Errorf("speaker %d: %.3f forwarded", i, got[i])
				}
			}
		})
	}
	t.Run("a flood", func(t *testing.T) {
		// A hundred times as many packets as there is time for bring nothing sooner.
		h := newHall(t, LoudestConfig{}, 20)
		talk := sounds{1: voice(30), 2: voice(30), 3: voice(30)}
		h.run(5*time.Second, talk)
		flood := h.mics[10]
		for range 25 {
			for i := range 100 {
				if h.l.Packet(flood, voice(10)(time.Duration(i)*frame), h.now).Forward {
					t.Fatal("a flood takes a slot from three who talk")
				}
			}
			h.run(frame, talk)
		}
	})
	t.Run("without end", func(t *testing.T) {
		h := newHall(t, LoudestConfig{}, 20)
		endless := func(now time.Duration) Packet {
			return Packet{Level: uint8(now / frame % 6 * 5), HasLevel: true, Size: 60}
		}
		all := sounds{1: voice(30), 2: voice(30), 10: endless, 11: endless, 12: endless}
		h.run(15*time.Second, all)
		for range 5 {
			all[1], all[2] = nil, nil
			h.run(3*time.Second, all)
			all[1], all[2] = voice(30), voice(30)
			h.run(100*ms, all)
			if got := h.run(3*time.Second, all); got[1] < 0.999 || got[2] < 0.999 {
				t.Errorf("%v", got[:3])
			}
		}
	})
}

func TestHold(t *testing.T) {
	h := newHall(t, LoudestConfig{}, 20)
	talk := sounds{1: voice(30), 2: voice(30), 3: voice(30), 9: hum(45)}
	h.run(3*time.Second, talk)
	h.run(400*ms, sounds{9: hum(45)})
	h.run(3*time.Second, talk)
	before := h.l.Counts().Swaps
	// Who pauses keeps the slot while nobody else speaks, and noise doesn't take it.
	talk[2] = nil
	for range 6 {
		if got := h.run(time.Second, talk); got[2] < 0.999 {
			t.Fatalf("%.3f forwarded in a pause", got[2])
		}
	}
	h.run(400*ms, sounds{9: hum(45)})
	// A fourth as loud waits while three speak, and has a slot as soon as one stops.
	talk[2] = voice(30)
	h.run(time.Second, talk)
	talk[4] = voice(30)
	if got := h.run(3*time.Second, talk); got[4] > 0 || h.l.Counts().Swaps != before {
		t.Errorf("the fourth: %.2f forwarded, %d swaps", got[4], h.l.Counts().Swaps-before)
	}
	talk[1] = nil
	h.run(200*ms, talk)
	if got := h.run(time.Second, talk); got[4] < 0.999 {
		t.Errorf("%.3f forwarded after one had stopped", got[4])
	}
	// Clearly louder, a fourth who is known to speak is heard.
	talk = sounds{2: voice(35), 3: voice(30), 4: voice(30), 1: voice(22)}
	h.run(time.Second, talk)
	if got := h.run(time.Second, talk); got[1] < 0.999 || got[2] > 0 {
		t.Errorf("%v", got[:5])
	}
	// Muting frees the slot at once.
	h.l.SetMuted(h.mics[1], true)
	h.run(80*ms, talk)
	if got := h.run(time.Second, talk); got[1] > 0 || got[2] < 0.999 {
		t.Errorf("%v", got[:5])
	}
}

// TestStanding: coughs don't add up to a speaker, and one who was is so for a while after the last word.
func TestStanding(t *testing.T) {
	h := newHall(t, LoudestConfig{}, 20)
	talk := sounds{1: voice(30), 2: voice(30), 3: voice(30)}
	h.run(4*time.Second, talk)
	m := h.mics[1]
	if !m.stands(h.now) || !m.stands(h.now+20*time.Second) || m.stands(h.now+40*time.Second) {
		t.Errorf("after 4 s of speech %v are left, after 40 s %v", m.lasting(h.now), m.lasting(h.now+40*time.Second))
	}
	for range 20 {
		h.run(300*ms, sounds{5: voice(15)})
		if h.run(10*time.Second, nil); h.mics[5].stands(h.now) {
			t.Fatal("coughs make a speaker")
		}
	}
	// One who has spoken ever since joining isn't known before the first breath: levels made up have none.
	late := h.l.Add("", false)
	h.mics = append(h.mics, late)
	h.run(2500*ms, sounds{20: voice(30)})
	if late.stands(h.now) || h.l.slot(late) < 0 {
		t.Errorf("%+v", late)
	}
	h.run(300*ms, nil)
	h.run(2*time.Second, sounds{20: voice(30)})
	if !late.stands(h.now) {
		t.Errorf("%+v", late)
	}
}

// threeKnown is a hall in which microphones 1 to 3 are known for speech and have just begun to speak again.
func threeKnown(t *testing.T) (*hall, sounds) {
	h := newHall(t, LoudestConfig{}, 20)
	talk := sounds{1: voice(24), 2: voice(24), 3: voice(24)}
	h.run(4*time.Second, talk)
	h.run(400*ms, nil)
	h.run(time.Second, talk)
	return h, talk
}

func TestContest(t *testing.T) {
	t.Run("shouting", func(t *testing.T) {
		h, talk := threeKnown(t)
		talk[4] = voice(2)
		if got := h.run(3*time.Second, talk); got[4] > 0 {
			t.Errorf("%.2f of it is forwarded", got[4])
		}
	})
	t.Run("a cough before a new speaker", func(t *testing.T) {
		h, talk := threeKnown(t)
		delete(talk, 3)
		h.run(2*time.Second, talk)
		cough := func(time.Duration) Packet { return Packet{Level: 15, HasLevel: true, Size: 60} }
		talk[5] = cough
		if got := h.run(200*ms, talk); got[5] < 0.5 {
			t.Fatalf("%v", got)
		}
		talk[6] = func(time.Duration) Packet { return Packet{Level: 28, HasLevel: true, Size: 60} }
		h.run(80*ms, talk)
		if got := h.run(100*ms, talk); got[6] < 0.999 || got[1] < 0.999 || got[2] < 0.999 {
			t.Errorf("%v", got[:7])
		}
	})
	t.Run("a speaker before a cough", func(t *testing.T) {
		h, talk := threeKnown(t)
		delete(talk, 3)
		h.run(2*time.Second, talk)
		talk[6] = func(time.Duration) Packet { return Packet{Level: 28, HasLevel: true, Size: 60} }
		h.run(500*ms, talk)
		talk[5] = func(time.Duration) Packet { return Packet{Level: 15, HasLevel: true, Size: 60} }
		if got := h.run(300*ms, talk); got[6] < 0.999 || got[5] > 0 {
			t.Errorf("%v", got[:7])
		}
	})
	t.Run("back after a word's pause", func(t *testing.T) {
		h, talk := threeKnown(t)
		level := func(l uint8) func(time.Duration) Packet {
			return func(time.Duration) Packet { return Packet{Level: l, HasLevel: true, Size: 60} }
		}
		talk[1], talk[2], talk[3] = level(25), level(25), level(80)
		h.run(60*ms, talk)
		talk[4] = level(25)
		if got := h.run(200*ms, talk); got[4] < 0.3 {
			t.Fatalf("%v", got[:5])
		}
		talk[3] = level(25)
		if got := h.run(frame, talk); got[3] < 0.999 {
			t.Errorf("%v", got[:5])
		}
	})
	t.Run("what its client says is no voice", func(t *testing.T) {
		for _, is := range []bool{true, false} {
			h, _ := threeKnown(t)
			noise := func(voice bool) func(time.Duration) Packet {
				return func(now time.Duration) Packet {
					p := Packet{Level: 60, HasLevel: true, HasVoice: true, Voice: voice, Size: 60}
					if now/frame%10 < 5 {
						p.Level = 45
					}
					return p
				}
			}
			h.run(3*time.Second, sounds{7: func(time.Duration) Packet {
				return Packet{Level: 60, HasLevel: true, HasVoice: true, Voice: true, Size: 60}
			}})
			if got := h.run(time.Second, sounds{7: noise(is)}); got[7] > 0 != is {
				t.Errorf("voice %v: %.2f forwarded", is, got[7])
			}
		}
	})
}

// TestDiscontinuous: who sends nothing in silence is heard from the first word, and has a slot within 100 ms.
func TestDiscontinuous(t *testing.T) {
	for _, length := range []time.Duration{20 * ms, 60 * ms} {
		h := newHall(t, LoudestConfig{}, 20)
		others := sounds{1: voice(30), 2: voice(30), 3: voice(30)}
		quiet := h.mics[19]
		h.mics = h.mics[:19]
		for range 5 {
			for range 25 {
				h.run(400*ms, others)
				if h.l.Packet(quiet, Packet{Level: 127, HasLevel: true, Size: 1}, h.now).Forward && len(others) == 3 {
					t.Fatal("silence is forwarded")
				}
			}
			delete(others, 3)
			h.run(2*time.Second, others)
			begin, heard := h.now, time.Duration(-1)
			for h.now < begin+3*time.Second {
				p := voice(25)(h.now)
				p.Length, p.Size = length, 200
				if h.l.Packet(quiet, p, h.now).Forward {
					if heard < 0 {
						heard = h.now - begin
					}
				} else if heard >= 0 {
					t.Fatalf("lost %v after the first word", h.now-begin)
				}
				h.run(length, others)
			}
			if heard < 0 || heard > 100*ms {
				t.Errorf("heard after %v", heard)
			}
			others[3] = voice(30)
			h.run(3*time.Second, others)
		}
	}
}

// TestOwners: one who speaks into many microphones, or publishes many tracks that aren't compared, leaves room for others.
func TestOwners(t *testing.T) {
	l := NewLoudest(LoudestConfig{Forwarded: 3, Above: 4, Exempt: 4, Unlevelled: 3})
	add := func(owner string, exempt bool, n int) (list []*Microphone) {
		for range n {
			list = append(list, l.Add(owner, exempt))
		}
		return list
	}
	greedy, other := add("greedy", false, 6), add("other", false, 1)
	silent, exempt := add("greedy", false, 4), add("greedy", true, 4)
	var now time.Duration
	speak := func(mics []*Microphone) (forwarded int) {
		for _, m := range mics {
			if l.Packet(m, voice(30)(now), now).Forward {
				forwarded++
			}
		}
		return forwarded
	}
	blind := func(mics []*Microphone) (forwarded int) {
		for _, m := range mics {
			if l.Packet(m, Packet{Size: 60}, now).Forward {
				forwarded++
			}
		}
		return forwarded
	}
	for now = 0; now < 6*time.Second; now += frame {
		if n := speak(greedy); n > MaxOwned {
			t.Fatalf("%d of one owner are forwarded", n)
		}
		if n, e := blind(silent), blind(exempt); n > MaxOwned || e > 2 {
			t.Fatalf("%d without a level and %d exempt of one owner are forwarded", n, e)
		}
		if now > time.Second && speak(other) == 0 && now > 2*time.Second {
			t.Fatalf("another isn't heard after %v", now-time.Second)
		}
	}
	if n := speak(greedy); n != MaxOwned {
		t.Errorf("%d of one owner are forwarded", n)
	}
	// Nor by turns: some of the tracks, a pause, the others, and then all.
	for _, some := range [][]*Microphone{exempt[:2], nil, exempt[2:], exempt, exempt} {
		blind(some)
		now += vacant
	}
	if n := blind(exempt); n > 2 {
		t.Errorf("%d exempt of one owner are forwarded after they took turns", n)
	}
}

func TestExempt(t *testing.T) {
	h := newHall(t, LoudestConfig{Exempt: 2, Unlevelled: 2}, 20)
	agents := []*Microphone{h.l.Add("", true), h.l.Add("", true), h.l.Add("", true)}
	send := func(m *Microphone, size int) bool { return h.l.Packet(m, Packet{Size: size}, h.now).Forward }
	if !send(agents[0], 60) || !send(agents[1], 60) || send(agents[2], 60) {
		t.Error("two of three may be forwarded")
	}
	if c := h.l.Counts(); c.Exempt != 3 || c.Refused != 1 || c.Open != 20 {
		t.Errorf("%+v", c)
	}
	// A place goes to another when nothing has sounded there for a while; silence doesn't take or keep one.
	h.now += vacant - ms
	if send(agents[2], 60) || !send(agents[0], 60) || !send(agents[1], 3) {
		t.Error("too early")
	}
	h.now += ms
	if send(agents[2], 3) || !send(agents[2], 60) || send(agents[1], 60) || !send(agents[0], 60) {
		t.Error("the place isn't passed on")
	}
	h.l.SetMuted(agents[0], true)
	if send(agents[0], 60) || !send(agents[1], 60) {
		t.Error("muted")
	}
	h.l.Remove(agents[1])
	h.l.SetMuted(agents[0], false)
	if c := h.l.Counts(); !send(agents[0], 60) || send(agents[1], 60) || c.Exempt != 2 || c.Open != 20 {
		t.Errorf("%+v", c)
	}

	// Microphones without levels have places of their own; one that begins to send levels gives its place up, and one that
	// ends to send them must not be shut out.
	for _, m := range h.mics {
		m.levelled = false
	}
	if !send(h.mics[0], 60) || !send(h.mics[1], 60) || send(h.mics[2], 60) {
		t.Error("two of three without level may be forwarded")
	}
	talk := func() Decision { return h.l.Packet(h.mics[0], voice(20)(h.now), h.now) }
	for range 10 {
		h.now += frame
		talk()
	}
	if !talk().Forward || !send(h.mics[2], 60) || send(h.mics[3], 60) {
		t.Error("the place wasn't given up")
	}
	if !send(h.mics[0], 60) {
		t.Error("a packet without level, of one who is forwarded, is held back")
	}
	h.l.SetMuted(h.mics[1], true)
	h.now += levelLost + ms
	if !send(h.mics[0], 60) || len(h.l.slots) != 0 {
		t.Error("levels have ended: shut out")
	}
	// In a small room nobody is shut out.
	small := NewLoudest(LoudestConfig{Exempt: 1, Unlevelled: 1})
	for range 3 {
		for _, m := range []*Microphone{small.Add("", true), small.Add("", false)} {
			if !small.Packet(m, Packet{}, 0).Forward {
				t.Error("held back in a small room")
			}
		}
	}
}

// TestFewer: subscribers who take fewer get the strongest.
func TestFewer(t *testing.T) {
	h := newHall(t, LoudestConfig{Forwarded: 3}, 20)
	talk := sounds{1: voice(40), 2: voice(20)}
	h.run(3*time.Second, talk)
	h.run(400*ms, nil)
	h.run(3*time.Second, talk)
	count := [4]int{}
	for range 50 {
		for i, m := range h.mics {
			p := Packet{Level: 80, HasLevel: true, Size: 20}
			if f := talk[i]; f != nil {
				p = f(h.now)
			}
			d := h.l.Packet(m, p, h.now)
			for n := range count {
				if d.For(n) {
					count[n]++
				}
			}
			if d.For(1) && i != 2 || i == 1 && !d.For(2) || d.For(0) != d.Forward {
				t.Fatalf("microphone %d: %+v", i, d)
			}
		}
		h.now += frame
	}
	if count != [4]int{count[0], 50, 100, count[0]} {
		t.Errorf("%v packets by how many are taken", count)
	}
}

func TestLoudestIsReproducible(t *testing.T) {
	run := func() (speakerstest.Outcome, LoudestCounts) {
		l := NewLoudest(LoudestConfig{})
		return play(speakerstest.NewRoom(3, 30*time.Second), l, 3, 30*ms), l.Counts()
	}
	a, before := run()
	b, after := run()
	if !reflect.DeepEqual(a, b) || before != after {
		t.Errorf("%+v %+v, then %+v %+v", a, before, b, after)
	}
}

// crowd returns one packet of each of n microphones: some talk, the others hum.
func crowd(n int) func() {
	l := NewLoudest(LoudestConfig{})
	mics := make([]*Microphone, n)
	for i := range mics {
		mics[i] = l.Add("", i%100 == 99)
	}
	now, k, i := time.Duration(0), 0, 0
	return func() {
		i++
		if i == n {
			i, k = 0, k+1
			now += frame
		}
		p := Packet{Level: uint8(60 + (i+k)&3), HasLevel: i%50 != 49, Voice: true, HasVoice: true, Length: frame, Size: 60}
		if (i+k/200)%20 == 0 {
			p = voice(uint8(20 + i%10))(now)
		}
		l.Packet(mics[i], p, now)
	}
}

func TestPacketAllocatesNothing(t *testing.T) {
	packet := crowd(500)
	for range 5000 {
		packet()
	}
	if n := testing.AllocsPerRun(50000, packet); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkLoudest(b *testing.B) {
	for _, n := range []int{10, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			packet := crowd(n)
			b.ReportAllocs()
			for b.Loop() {
				packet()
			}
		})
	}
}

// FuzzLoudest reads events from bytes and checks that limits hold and that nobody silent is chosen over one who isn't.
func FuzzLoudest(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 100, 20, 60, 1, 200, 30, 60, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func() (b byte) {
			if len(data) > 0 {
				b, data = data[0], data[1:]
			}
			return b
		}
		l := NewLoudest(LoudestConfig{Forwarded: int(int8(next())), Above: int(next() % 6), Exempt: int(int8(next())), Unlevelled: int(next() & 3)})
		var mics []*Microphone
		now := time.Duration(0)
		for len(data) > 0 {
			op := next()
			i := int(op >> 3)
			switch {
			case i >= len(mics):
				mics = append(mics, l.Add("", op&7 == 7))
				continue
			case op&7 == 0:
				l.SetMuted(mics[i], !mics[i].muted)
			case op&7 == 1 && next()&3 == 0:
				l.Remove(mics[i])
			}
			flags := next()
			p := Packet{Level: next(), HasLevel: flags&1 == 0, Voice: flags&2 != 0, HasVoice: flags&4 != 0,
				Length: time.Duration(int8(next())) * 5 * ms, Size: int(next())}
			now += time.Duration(int8(next())) * ms // back, too
			d := l.Packet(mics[i], p, now)
			if (mics[i].muted || mics[i].removed) && d.Forward {
				t.Fatal("muted, and forwarded")
			}
			if d.Forward && (d.Rank < 0 || d.Rank >= l.cfg.Forwarded) {
				t.Fatalf("%+v", d)
			}
			open, exempt := 0, 0
			for _, m := range mics {
				if m.removed {
					continue
				}
				if m.exempt {
					exempt++
				} else if !m.muted {
					open++
				}
			}
			c := l.Counts()
			if c.Open != open || c.Exempt != exempt || c.Gating && open <= l.cfg.Above-l.cfg.Above/4 || !c.Gating && open > l.cfg.Above {
				t.Fatalf("%+v, but %d and %d", c, open, exempt)
			}
			if len(l.slots) > l.cfg.Forwarded || len(l.exempt.places) > l.cfg.Exempt || len(l.unlevelled.places) > l.cfg.Unlevelled {
				t.Fatal("over a limit")
			}
			for k, m := range l.slots {
				if m.muted || m.removed || slices.Contains(l.slots[:k], m) || m.run < 0 || m.run > longestRun || m.credit < 0 || m.credit > burst ||
					m.loudness < loudEnough*16 || m.loudness > speechLevel*16 || m.speech < 0 || m.speech > mostStanding {
					t.Fatalf("slot %d: %+v", k, m)
				}
			}
		}
	})
}
