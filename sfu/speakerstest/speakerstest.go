// Package speakerstest scripts a meeting in a room of 200 microphones, with what is true of it beside what is heard, and
// judges what was forwarded of it.
package speakerstest

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Frame is the length of audio in each packet of the script.
const Frame = 20 * time.Millisecond

const ms = time.Millisecond

// Sound is what a microphone hears in one frame.
type Sound struct {
	Level uint8 // -dBov
	Size  int   // of the payload, in bytes
	Voice bool  // the V bit
	// Talks: a phrase of a turn is being spoken, ground truth. Turn counts the turns that have begun.
	Talks bool
	Turn  int
	// Nothing is sent: discontinuous transmission.
	Nothing bool
	NoLevel bool
}

// Script is a microphone for the length of a test, frame by frame.
type Script []Sound

// Room scripts a meeting in a room of 200 microphones: a dozen people who talk, mostly one at a time, interrupt each
// other and debate; the others cough, type, run fans, play music, lie about levels or send none.
type Room struct {
	// Frames is the length of each script.
	Frames  int
	Scripts []Script
	Spoofed [200]bool // those that lie
	Missing [200]bool // those that send no level

	rnd *rand.Rand
}

const talkers = 12

// NewRoom scripts a meeting of that length; the same seed makes the same.
func NewRoom(seed uint64, length time.Duration) *Room {
	r := &Room{rnd: rand.New(rand.NewPCG(seed, 200)), Frames: int(length / Frame)}
	for i := range 200 {
		r.Scripts = append(r.Scripts, r.background(i))
	}
	r.conversation()
	for i := talkers; i < 60; i++ {
		r.coughs(r.Scripts[i])
	}
	for i := 60; i < 75; i++ {
		r.types(r.Scripts[i])
	}
	r.music(r.Scripts[75])
	for i := 180; i < 190; i++ {
		r.spoof(r.Scripts[i], i%5)
		r.Spoofed[i] = true
	}
	for i := 190; i < 195; i++ {
		for k := range r.Scripts[i] {
			r.Scripts[i][k].NoLevel = true
		}
		r.Missing[i] = true
	}
	return r
}

// normal returns a number with a standard deviation.
func (r *Room) normal(deviation float64) float64 { return r.rnd.NormFloat64() * deviation }

func level(v float64) uint8 { return uint8(min(max(v, 0), 127)) }

// background is a microphone nobody talks into: a noise floor of its own, a fan here and there, some with noise
// suppression, every third with discontinuous transmission.
func (r *Room) background(i int) Script {
	s := make(Script, r.Frames)
	floor, deviation := 52+r.rnd.Float64()*25, 1+r.rnd.Float64()*1.5
	suppressed := i%4 == 0
	dtx := i%3 == 0
	for k := range s {
		f := Sound{Level: level(floor + r.normal(deviation)), Size: 20 + r.rnd.IntN(15)}
		if suppressed {
			f.Level = 127
		}
		if dtx {
			f.Size, f.Nothing = 2, k%20 != i%20
		}
		s[k] = f
	}
	return s
}

// louder puts a sound over what is there.
func (f *Sound) louder(l uint8, size int) {
	f.Nothing = false
	f.Size = max(f.Size, size)
	f.Level = min(f.Level, l)
	f.Voice = true
}

// speak has a turn spoken from frame at: phrases of words of syllables, pauses to breathe between them.
func (r *Room) speak(s Script, at, length int, loudness float64, turn int) {
	end := min(at+length, len(s))
	for at < end {
		phrase := min(at+50+r.rnd.IntN(150), end) // 1–4 s
		onset := at
		for at < phrase {
			// A syllable, then a dip.
			peak := loudness + r.normal(3)
			for n := 5 + r.rnd.IntN(6); n > 0 && at < phrase; n-- {
				rise := 0.0
				if at == onset {
					rise = 8 // voices set in softly
				}
				s[at].louder(level(peak+rise+r.normal(2)), 50+r.rnd.IntN(40))
				s[at].Talks, s[at].Turn = true, turn
				at++
			}
			for n := 1 + r.rnd.IntN(5); n > 0 && at < phrase; n-- {
				s[at].louder(level(loudness+12+r.rnd.Float64()*12), 30+r.rnd.IntN(20))
				s[at].Talks, s[at].Turn = true, turn
				at++
			}
		}
		at += 12 + r.rnd.IntN(28) // 240–800 ms
	}
}

func (r *Room) conversation() {
	loudness := make([]float64, talkers)
	for i := range loudness {
		loudness[i] = 18 + r.rnd.Float64()*17
	}
	turn := 0
	free := make([]int, talkers)
	begin := func(at, length int) {
		who := r.rnd.IntN(talkers)
		for n := 0; free[who] > at && n < 50; n++ {
			who = r.rnd.IntN(talkers)
		}
		if free[who] > at || at >= r.Frames {
			return
		}
		turn++
		r.speak(r.Scripts[who], at, length, loudness[who], turn)
		free[who] = at + length + 50
	}
	for at := 200; at < r.Frames; { // after the first seconds of those who lie
		length := 100 + r.rnd.IntN(500) // 2–12 s
		begin(at, length)
		for n := r.rnd.IntN(3); n > 0; n-- {
			begin(at+r.rnd.IntN(length), 20+r.rnd.IntN(40)) // "yes", "I see"
		}
		if r.rnd.IntN(4) == 0 { // a debate
			for range 2 {
				begin(at+r.rnd.IntN(length), 100+r.rnd.IntN(200))
			}
		}
		at += length - 30 + r.rnd.IntN(60)
	}
}

func (r *Room) coughs(s Script) {
	for at := r.rnd.IntN(2000); at < len(s); at += 1000 + r.rnd.IntN(3000) {
		loudness := 12 + r.rnd.Float64()*18
		for k := at; k < min(at+12+r.rnd.IntN(10), len(s)); k++ {
			s[k].louder(level(loudness+r.normal(4)), 60+r.rnd.IntN(30))
		}
	}
}

// types presses keys, four to seven per second, for a while.
func (r *Room) types(s Script) {
	for at := r.rnd.IntN(1000); at < len(s); at += 200 + r.rnd.IntN(1000) {
		for end := min(at+200+r.rnd.IntN(800), len(s)); at < end; at += 6 + r.rnd.IntN(7) {
			l := 28 + r.rnd.Float64()*14
			for k := at; k < min(at+1+r.rnd.IntN(2), len(s)); k++ {
				s[k].louder(level(l), 50+r.rnd.IntN(30))
				s[k].Voice = r.rnd.IntN(3) == 0
			}
		}
	}
}

func (r *Room) music(s Script) {
	for k := range s {
		s[k].louder(level(24+r.normal(7)), 100)
	}
}

// spoof lies: always 0 dBov; always 15; loud at random; loud with the payloads of silence; alternately loud and silent.
func (r *Room) spoof(s Script, how int) {
	for k := range s {
		f := Sound{Size: 80, Voice: true}
		switch how {
		case 1:
			f.Level = 15
		case 2:
			f.Level = uint8(r.rnd.IntN(25))
		case 3:
			f.Level, f.Size = uint8(5+r.rnd.IntN(60)), 3
		case 4:
			f.Level = uint8(k & 1 * 60)
		}
		s[k] = f
	}
}

// Each calls f for each packet, in the order in which they arrive: who sends it, its frame, and when it comes. jitter
// delays each by up to that much, now and then by six times as much, in order.
func (r *Room) Each(jitter time.Duration, f func(who, frame int, at time.Duration)) {
	type arrival struct {
		at         time.Duration
		who, frame int
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	latest := make([]time.Duration, len(r.Scripts))
	var pending []arrival
	for k := range r.Frames {
		for i, s := range r.Scripts {
			if s[k].Nothing {
				continue
			}
			at := time.Duration(k)*Frame + time.Duration(i)*100*time.Microsecond
			if jitter > 0 {
				d := time.Duration(rnd.Int64N(int64(jitter)))
				if rnd.IntN(200) == 0 {
					d *= 6
				}
				at += d
			}
			latest[i] = max(latest[i], at)
			pending = append(pending, arrival{latest[i], i, k})
		}
		slices.SortStableFunc(pending, func(a, b arrival) int { return int(a.at - b.at) })
		done := 0
		for _, p := range pending {
			if p.at >= time.Duration(k+1)*Frame && k+1 < r.Frames {
				break
			}
			done++
			f(p.who, p.frame, p.at)
		}
		pending = slices.Delete(pending, 0, done)
	}
}

// Outcome is how a selection did.
type Outcome struct {
	// Frames are those in which somebody talked; of them Right: all who talk are forwarded, or as many as may be, where the
	// first 100 ms of a turn are granted; Strict: the same with nothing granted.
	Frames, Right, Strict int
	// Latencies are, of each turn, what is lost of it before its first packet is forwarded, while no more talk than may.
	Latencies []time.Duration
	// Talk counts frames of talk, Clipped those dropped beyond the first 100 ms of a turn, while no more talked than may.
	Talk, Clipped int
	// SpoofShare is how many slots the liars had on average, Usurped the same while one who talked had none, past the first
	// 100 ms.
	SpoofShare, Usurped float64
	// MissingMost is the most tracks without level that were forwarded in one frame, Mean the average of the others.
	MissingMost int
	Mean        float64
}

// Add sums outcomes, shares of slots too. MissingMost and Mean stay.
func (o *Outcome) Add(more *Outcome) {
	o.Frames += more.Frames
	o.Right += more.Right
	o.Strict += more.Strict
	o.Clipped += more.Clipped
	o.Talk += more.Talk
	o.SpoofShare += more.SpoofShare
	o.Usurped += more.Usurped
	o.Latencies = append(o.Latencies, more.Latencies...)
	slices.Sort(o.Latencies)
}

// Latency returns the p-th percentile.
func (o *Outcome) Latency(p int) time.Duration {
	if len(o.Latencies) == 0 {
		return 0
	}
	return o.Latencies[min(len(o.Latencies)*p/100, len(o.Latencies)-1)]
}

// Judge says how well somebody was served who takes n microphones: forwarded tells, by microphone and frame, what came.
func (r *Room) Judge(forwarded [][]bool, n int) (o Outcome) {
	type turnOf struct {
		begins int
		lost   time.Duration // before it was heard, while no more talked than may
		heard  bool
	}
	turns := map[int]*turnOf{}
	for k := range r.Frames {
		talk, served, due := 0, 0, 0
		for _, s := range r.Scripts[:talkers] {
			if s[k].Talks {
				talk++
			}
		}
		for i, s := range r.Scripts[:talkers] {
			f := s[k]
			if !f.Talks {
				continue
			}
			t := turns[f.Turn]
			if t == nil {
				t = &turnOf{begins: k}
				turns[f.Turn] = t
			}
			o.Talk++
			early := k-t.begins < int(100*ms/Frame)
			switch {
			case forwarded[i][k]:
				served++
				t.heard = true
			case !early:
				due++
			}
			if !t.heard && talk <= n {
				t.lost += Frame
			}
		}
		missing, others := 0, 0
		for i := range forwarded {
			switch {
			case !forwarded[i][k]:
			case r.Missing[i]:
				missing++
			default:
				others++
			}
			if forwarded[i][k] && r.Spoofed[i] {
				o.SpoofShare += 1 / float64(r.Frames)
				if due > 0 {
					o.Usurped += 1 / float64(r.Frames)
				}
			}
		}
		o.MissingMost = max(o.MissingMost, missing)
		o.Mean += float64(others) / float64(r.Frames)
		if talk == 0 {
			continue
		}
		o.Frames++
		if served >= min(talk, n) || due == 0 {
			o.Right++
		}
		if served >= min(talk, n) {
			o.Strict++
		}
		if talk <= n {
			o.Clipped += due
		}
	}
	for _, t := range turns {
		o.Latencies = append(o.Latencies, t.lost)
	}
	slices.Sort(o.Latencies)
	return o
}
