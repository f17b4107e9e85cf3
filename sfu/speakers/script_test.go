package speakers

import (
	"math/rand/v2"
	"slices"
	"time"
)

const frame = 20 * ms // of every scripted microphone

// sound is what a microphone hears in one frame.
type sound struct {
	level uint8
	size  int
	voice bool
	// talks: a phrase of a turn is being spoken, ground truth. turn counts the turns that have begun.
	talks bool
	turn  int
	// nothing is sent: discontinuous transmission.
	nothing bool
	nolevel bool
}

// script is a microphone for the length of a test, frame by frame.
type script []sound

// room200 scripts a meeting in a room of 200 microphones: a dozen people who talk, mostly one at a time, interrupt each
// other and debate; the others cough, type, run fans, play music, lie about levels or send none.
type room200 struct {
	rnd     *rand.Rand
	frames  int
	scripts []script
	spoofed [200]bool // those that lie
	missing [200]bool // those that send no level
}

const talkers = 12

func newRoom200(seed uint64, length time.Duration) *room200 {
	r := &room200{rnd: rand.New(rand.NewPCG(seed, 200)), frames: int(length / frame)}
	for i := range 200 {
		r.scripts = append(r.scripts, r.background(i))
	}
	r.conversation()
	for i := talkers; i < 60; i++ {
		r.coughs(r.scripts[i])
	}
	for i := 60; i < 75; i++ {
		r.types(r.scripts[i])
	}
	r.music(r.scripts[75])
	for i := 180; i < 190; i++ {
		r.spoof(r.scripts[i], i%5)
		r.spoofed[i] = true
	}
	for i := 190; i < 195; i++ {
		for k := range r.scripts[i] {
			r.scripts[i][k].nolevel = true
		}
		r.missing[i] = true
	}
	return r
}

// normal returns a number with a standard deviation.
func (r *room200) normal(deviation float64) float64 { return r.rnd.NormFloat64() * deviation }

func level(v float64) uint8 { return uint8(min(max(v, 0), 127)) }

// background is a microphone nobody talks into: a noise floor of its own, a fan here and there, some with noise
// suppression, every third with discontinuous transmission.
func (r *room200) background(i int) script {
	s := make(script, r.frames)
	floor, deviation := 52+r.rnd.Float64()*25, 1+r.rnd.Float64()*1.5
	suppressed := i%4 == 0
	dtx := i%3 == 0
	for k := range s {
		f := sound{level: level(floor + r.normal(deviation)), size: 20 + r.rnd.IntN(15)}
		if suppressed {
			f.level = 127
		}
		if dtx {
			f.size, f.nothing = 2, k%20 != i%20
		}
		s[k] = f
	}
	return s
}

// louder puts a sound over what is there.
func (f *sound) louder(l uint8, size int) {
	f.nothing = false
	f.size = max(f.size, size)
	f.level = min(f.level, l)
	f.voice = true
}

// speak has a turn spoken from frame at: phrases of words of syllables, pauses to breathe between them.
func (r *room200) speak(s script, at, length int, loudness float64, turn int) {
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
				s[at].talks, s[at].turn = true, turn
				at++
			}
			for n := 1 + r.rnd.IntN(5); n > 0 && at < phrase; n-- {
				s[at].louder(level(loudness+12+r.rnd.Float64()*12), 30+r.rnd.IntN(20))
				s[at].talks, s[at].turn = true, turn
				at++
			}
		}
		at += 12 + r.rnd.IntN(28) // 240–800 ms
	}
}

func (r *room200) conversation() {
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
		if free[who] > at || at >= r.frames {
			return
		}
		turn++
		r.speak(r.scripts[who], at, length, loudness[who], turn)
		free[who] = at + length + 50
	}
	for at := 200; at < r.frames; { // after the first seconds of those who lie
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

func (r *room200) coughs(s script) {
	for at := r.rnd.IntN(2000); at < len(s); at += 1000 + r.rnd.IntN(3000) {
		loudness := 12 + r.rnd.Float64()*18
		for k := at; k < min(at+12+r.rnd.IntN(10), len(s)); k++ {
			s[k].louder(level(loudness+r.normal(4)), 60+r.rnd.IntN(30))
		}
	}
}

// types presses keys, four to seven per second, for a while.
func (r *room200) types(s script) {
	for at := r.rnd.IntN(1000); at < len(s); at += 200 + r.rnd.IntN(1000) {
		for end := min(at+200+r.rnd.IntN(800), len(s)); at < end; at += 6 + r.rnd.IntN(7) {
			l := 28 + r.rnd.Float64()*14
			for k := at; k < min(at+1+r.rnd.IntN(2), len(s)); k++ {
				s[k].louder(level(l), 50+r.rnd.IntN(30))
				s[k].voice = r.rnd.IntN(3) == 0
			}
		}
	}
}

func (r *room200) music(s script) {
	for k := range s {
		s[k].louder(level(24+r.normal(7)), 100)
	}
}

// spoof lies: always 0 dBov; always 15; loud at random; loud with the payloads of silence; alternately loud and silent.
func (r *room200) spoof(s script, how int) {
	for k := range s {
		f := sound{size: 80, voice: true}
		switch how {
		case 1:
			f.level = 15
		case 2:
			f.level = uint8(r.rnd.IntN(25))
		case 3:
			f.level, f.size = uint8(5+r.rnd.IntN(60)), 3
		case 4:
			f.level = uint8(k & 1 * 60)
		}
		s[k] = f
	}
}

// outcome is how a selection did.
type outcome struct {
	frames      int             // in which somebody talked
	right       int             // of them: all who talk are forwarded, or as many as may be. The first 100 ms of a turn are granted
	strict      int             // the same with nothing granted
	latencies   []time.Duration // of each turn: what is lost of it before its first packet is forwarded, while no more talk than may
	clipped     int             // frames of talk dropped beyond the first 100 ms of a turn, while no more talked than may
	talk        int             // frames of talk
	spoofShare  float64         // how many slots the liars had on average
	usurped     float64         // the same while one who talked had none, past the first 100 ms
	missingMost int             // the most tracks without level that were forwarded in one frame
	mean        float64         // of the others forwarded in a frame
	swaps       uint64
	packets     int
}

type arrival struct {
	at    time.Duration
	who   int
	frame int
}

// play runs the room through a selection. jitter delays each packet by up to that much, now and then by six times as much,
// in order.
func (r *room200) play(l *Loudest, n int, jitter time.Duration) (o outcome) {
	mics := make([]*Microphone, len(r.scripts))
	forwarded := make([][]bool, len(r.scripts))
	for i := range mics {
		mics[i] = l.Add(false)
		forwarded[i] = make([]bool, r.frames)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	latest := make([]time.Duration, len(mics))
	var pending []arrival
	for k := range r.frames {
		for i, s := range r.scripts {
			if s[k].nothing {
				continue
			}
			at := time.Duration(k)*frame + time.Duration(i)*100*time.Microsecond
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
			if p.at >= time.Duration(k+1)*frame && k+1 < r.frames {
				break
			}
			done++
			f := r.scripts[p.who][p.frame]
			d := l.Packet(mics[p.who], Packet{Level: f.level, HasLevel: !f.nolevel, Voice: f.voice, HasVoice: p.who%2 == 0,
				Length: frame, Size: f.size}, p.at)
			forwarded[p.who][p.frame] = d.For(n)
			o.packets++
		}
		pending = slices.Delete(pending, 0, done)
	}
	o.swaps = l.Counts().Swaps
	r.judge(forwarded, n, &o)
	return o
}

func (r *room200) judge(forwarded [][]bool, n int, o *outcome) {
	type turnOf struct {
		begins int
		lost   time.Duration // before it was heard, while no more talked than may
		heard  bool
	}
	turns := map[int]*turnOf{}
	for k := range r.frames {
		talk, served, due := 0, 0, 0
		for _, s := range r.scripts[:talkers] {
			if s[k].talks {
				talk++
			}
		}
		for i, s := range r.scripts[:talkers] {
			f := s[k]
			if !f.talks {
				continue
			}
			t := turns[f.turn]
			if t == nil {
				t = &turnOf{begins: k}
				turns[f.turn] = t
			}
			o.talk++
			early := k-t.begins < int(100*ms/frame)
			switch {
			case forwarded[i][k]:
				served++
				t.heard = true
			case !early:
				due++
			}
			if !t.heard && talk <= n {
				t.lost += frame
			}
		}
		missing, others := 0, 0
		for i := range forwarded {
			switch {
			case !forwarded[i][k]:
			case r.missing[i]:
				missing++
			default:
				others++
			}
			if forwarded[i][k] && r.spoofed[i] {
				o.spoofShare += 1 / float64(r.frames)
				if due > 0 {
					o.usurped += 1 / float64(r.frames)
				}
			}
		}
		o.missingMost = max(o.missingMost, missing)
		o.mean += float64(others) / float64(r.frames)
		if talk == 0 {
			continue
		}
		o.frames++
		if served >= min(talk, n) || due == 0 {
			o.right++
		}
		if served >= min(talk, n) {
			o.strict++
		}
		if talk <= n {
			o.clipped += due
		}
	}
	for _, t := range turns {
		o.latencies = append(o.latencies, t.lost)
	}
	slices.Sort(o.latencies)
}

// latency returns the p-th percentile.
func (o *outcome) latency(p int) time.Duration {
	if len(o.latencies) == 0 {
		return 0
	}
	return o.latencies[min(len(o.latencies)*p/100, len(o.latencies)-1)]
}
