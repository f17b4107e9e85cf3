package sfu

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The tests here play a client with a single peer connection: its offers are built by hand, and so is what a publisher
// would be answered.

// solo is such a client, with its half of the server.
type solo struct {
	t      *testing.T
	p      *Participant
	tr     *transport
	sink   *recorder
	events chan Event
	lines  []string // "audio recvonly", "video sendrecv", by mid 0, 1, …
	tracks map[string]string
	answer string
}

// newSolo adds a subscriber to the stage that has not offered yet.
func (st *stage) newSolo(t *testing.T, id string) *solo {
	t.Helper()
	c := &solo{t: t, sink: &recorder{keep: true}, events: make(chan Event, 1000)}
	p := st.participant(id)
	p.cfg.Single, p.cfg.Notify = true, func(e Event) { c.events <- e }
	p.nego.outstanding = false
	p.asking = newAlarm(&st.server.works, st.server.now, p.nego.unanswered)
	c.p = p
	c.tr = &transport{p: p, out: newEgress(c.sink, st.server.now)}
	c.tr.in = newIngest(p, c.tr.writeRTCP)
	p.transports[Publisher].Store(c.tr)
	t.Cleanup(c.end)
	return c
}

func (c *solo) end() {
	c.p.mu.Lock()
	closed := c.p.closed
	c.p.closed = true
	c.p.mu.Unlock()
	if closed {
		return
	}
	close(c.p.done)
	c.p.asking.stop()
	c.p.reports.stop()
	c.p.work.Wait()
	c.tr.in.close()
	c.tr.out.close()
}

// description writes what the client offers, or what a publisher is answered.
func (c *solo) description(answer bool) string {
	var b strings.Builder
	b.WriteString("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
		"a=fingerprint:sha-256 AB" + strings.Repeat(":AB", 31) + "\r\n")
	for i, l := range c.lines {
		kind, dir, _ := strings.Cut(l, " ")
		if answer {
			// Nothing is sent here so far: RFC 3264 section 6.1.
			dir = map[string]string{"recvonly": "inactive", "sendrecv": "recvonly", "sendonly": "recvonly", "inactive": "inactive"}[dir]
		}
		if kind == "audio" {
			fmt.Fprintf(&b, "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:%d\r\na=%s\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n", i, dir)
		} else {
			fmt.Fprintf(&b, "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:%d\r\na=%s\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\n"+
				"a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n", i, dir)
		}
		if !answer && strings.HasPrefix(dir, "send") {
			fmt.Fprintf(&b, "a=msid:own own-%d\r\n", i)
		}
	}
	return b.String()
}

// offer sends the lines as they are now, and reads the answer.
func (c *solo) offer() {
	c.t.Helper()
	n := &c.p.nego
	offered, err := parseDescription(c.description(false))
	if err != nil {
		c.t.Fatal(err)
	}
	text := c.description(true)
	ours, err := parseDescription(text)
	if err != nil {
		c.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.publishable = true
	if c.answer, c.tracks, err = n.lend(c.tr, offered, ours, text); err != nil {
		c.t.Fatal(err)
	}
}

// section returns what the last answer says about an m-line.
func (c *solo) section(mid string) section {
	c.t.Helper()
	all, err := parseDescription(c.answer)
	if err != nil {
		c.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s section) bool { return s.mid == mid })
	if i < 0 {
		c.t.Fatalf("no mid %s in the answer", mid)
	}
	return all[i]
}

func (c *solo) wantTracks(want map[string]string) {
	c.t.Helper()
	if !maps.Equal(c.tracks, want) {
		c.t.Errorf("the answer names %v, want %v", c.tracks, want)
	}
}

// next waits for the next event.
func (c *solo) next() Event {
	c.t.Helper()
	select {
	case e := <-c.events:
		return e
	case <-time.After(time.Minute): // of a test's own time
		c.t.Fatal("nothing is told")
		return nil
	}
}

func (c *solo) wantNext(want Event) {
	c.t.Helper()
	if e := c.next(); e != want {
		c.t.Errorf("told %#v, want %#v", e, want)
	}
}

// quiet checks that nothing is told for a while.
func (c *solo) quiet(d time.Duration) {
	c.t.Helper()
	select {
	case e := <-c.events:
		c.t.Errorf("told %#v", e)
	case <-time.After(d):
	}
}

func (c *solo) subscribe(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		if err := c.p.Subscribe(id); err != nil {
			c.t.Fatal(err)
		}
	}
}

// cast publishes so many tracks: TR_a0, TR_a1 …, TR_v0 … They have room for them all.
func (st *stage) cast(audio, video int) {
	st.server.cfg.Limits.Publications = max(16, audio+video)
	for i := range audio {
		st.publish(fmt.Sprintf("TR_a%d", i), Audio, audioSection(fmt.Sprintf("a%d", i)))
	}
	for i := range video {
		st.publish(fmt.Sprintf("TR_v%d", i), Video, videoSection(fmt.Sprintf("v%d", i)))
	}
	st.server.cfg.Limits.Publications = 16
}

// inSimulatedTime runs a test whose clock goes on when all wait.
func inSimulatedTime(t *testing.T, f func(*testing.T, *stage)) {
	synctest.Test(t, func(t *testing.T) { f(t, newStage(t)) })
}

func TestSectionsAreLentAndGivenBack(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(1, 2)
		c := st.newSolo(t, "PA_c")
		c.subscribe("TR_a0", "TR_v0")
		c.quiet(time.Second) // its first offer comes by itself
		c.lines = []string{"audio sendrecv", "audio recvonly", "video recvonly", "video inactive"}
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_v0"})
		// The directions are the answers that RFC 3264 section 6.1 allows.
		for mid, want := range map[string][2]bool{"0": {false, true}, "1": {true, false}, "2": {true, false}, "3": {false, false}} {
			s := c.section(mid)
			if got := [2]bool{s.sending, s.receiving}; got != want {
				t.Errorf("mid %s: sending, receiving %v, want %v", mid, got, want)
			}
		}
		a, v := c.section("1"), c.section("2")
		if a.stream != "PA_pub|TR_a0" || a.track != "TR_a0" || len(a.ssrcs) != 1 {
			t.Errorf("audio section: %+v", a)
		}
		if v.track != "TR_v0" || len(v.ssrcs) != 2 || len(v.groups) != 1 || v.groups[0].semantics != "FID" || v.groups[0].ssrcs[0] != v.ssrcs[0] {
			t.Errorf("video section: %+v", v)
		}
		c.quiet(time.Second)

		// One ends: the client is asked for an offer as it is, and the m-line falls silent.
		c.p.Unsubscribe("TR_v0")
		c.wantNext(SectionsNeeded{})
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0"})
		if s := c.section("2"); s.sending || len(s.ssrcs) != 0 || s.track != "" {
			t.Errorf("a section given back: %+v", s)
		}
		// Another takes it: its own ids, stream and sources.
		c.subscribe("TR_v1")
		c.wantNext(SectionsNeeded{})
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_v1"})
		if s := c.section("2"); s.track != "TR_v1" || s.stream != "PA_pub|TR_v1" || s.ssrcs[0] == v.ssrcs[0] || s.ssrcs[1] == v.ssrcs[1] {
			t.Errorf("a section used again: %+v, before %+v", s, v)
		}
		// Every answer names all, also one to an offer that is about something else.
		c.lines[3] = "video sendonly"
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_v1"})
		if s := c.section("3"); s.sending || !s.receiving {
			t.Errorf("the client's own section: %+v", s)
		}
		// The publisher republishes: the m-line passes on without a question between.
		st.pub.Unpublish("TR_v1")
		c.wantNext(SectionsNeeded{})
		c.offer()
		st.publish("TR_v2", Video, videoSection("v2"))
		c.subscribe("TR_v2")
		c.wantNext(SectionsNeeded{})
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_v2"})
		c.quiet(time.Minute)
	})
}

// TestStreamsGroupTracks: what belongs together is in one stream, also on an m-line that is used again.
func TestStreamsGroupTracks(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(1, 1)
		for _, kind := range []string{"a0", "v0"} {
			st.pub.tracks.byID["TR_"+kind].cfg.Stream = "camera"
		}
		c := st.newSolo(t, "PA_c")
		c.lines = []string{"audio recvonly", "video recvonly"}
		for range 2 {
			c.subscribe("TR_a0", "TR_v0")
			c.offer()
			if a, v := c.section("0"), c.section("1"); a.stream != "PA_pub|camera" || v.stream != "PA_pub|camera" || a.track != "TR_a0" || v.track != "TR_v0" {
				t.Errorf("streams %q and %q, tracks %q and %q", a.stream, v.stream, a.track, v.track)
			}
			c.p.Unsubscribe("TR_a0")
			c.p.Unsubscribe("TR_v0")
			c.offer()
			c.wantTracks(map[string]string{})
		}
	})
}

// TestSectionsThatChangeHands: a browser tells its page of a track on an m-line that went on receiving only when its
// stream is new. So a subscription takes an m-line that wasn't in use before, if there is one, and else a stream of its own.
func TestSectionsThatChangeHands(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(0, 3)
		for i := range 3 {
			st.pub.tracks.byID[fmt.Sprint("TR_v", i)].cfg.Stream = "camera"
		}
		c := st.newSolo(t, "PA_c")
		c.lines = []string{"video recvonly", "video recvonly"}
		for round, want := range []struct{ mid, stream string }{{"0", "camera"}, {"1", "camera"}, {"0", "camera"}} {
			c.subscribe(fmt.Sprint("TR_v", round))
			c.offer()
			c.wantTracks(map[string]string{want.mid: fmt.Sprint("TR_v", round)})
			if s := c.section(want.mid); s.stream != "PA_pub|"+want.stream {
				t.Errorf("round %d: stream %s", round, s.stream)
			}
			c.p.Unsubscribe(fmt.Sprint("TR_v", round))
		}
		c.offer()
		c.lines = []string{"video recvonly", "video sendonly"} // one alone
		for round, stream := range []string{"camera", "TR_v1", "camera", "TR_v0"} {
			track := fmt.Sprint("TR_v", round%3)
			c.subscribe(track)
			c.offer()
			c.wantTracks(map[string]string{"0": track})
			if s := c.section("0"); s.stream != "PA_pub|"+stream {
				t.Errorf("on the only m-line, round %d: stream %s", round, s.stream)
			}
			c.p.Unsubscribe(track)
		}
		// One that has no stream to share, and comes back at once.
		st.pub.tracks.byID["TR_v0"].cfg.Stream = ""
		c.offer()
		for _, stream := range []string{"TR_v0", "again-TR_v0", "TR_v0"} {
			c.subscribe("TR_v0")
			c.offer()
			if s := c.section("0"); s.stream != "PA_pub|"+stream {
				t.Errorf("the same track again: stream %s", s.stream)
			}
			c.p.Unsubscribe("TR_v0")
		}
	})
}

// TestSectionsAreRequired: React Native comes without any section, and asks for as many as it needs.
func TestSectionsAreRequired(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(2, 3)
		c := st.newSolo(t, "PA_c")
		c.subscribe("TR_a0", "TR_a1", "TR_v0", "TR_v1", "TR_v2")
		c.lines = []string{"audio sendonly"}
		c.offer() // its first: it doesn't know yet
		c.wantTracks(map[string]string{})
		c.wantNext(SectionsNeeded{Audio: 2, Video: 3})
		c.quiet(time.Second) // one question at a time
		c.lines = append(c.lines, "audio recvonly", "audio recvonly", "video recvonly", "video recvonly", "video recvonly")
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_a1", "3": "TR_v0", "4": "TR_v1", "5": "TR_v2"})
		c.quiet(time.Minute)
		// The counts are of what is needed beyond what there is: one m-line is free now, two tracks come.
		c.p.Unsubscribe("TR_v1")
		st.publish("TR_v3", Video, videoSection("v3"))
		st.publish("TR_v4", Video, videoSection("v4"))
		c.subscribe("TR_v3", "TR_v4")
		c.wantNext(SectionsNeeded{Video: 1})
		c.lines = append(c.lines, "video recvonly")
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_a1", "3": "TR_v0", "4": "TR_v4", "5": "TR_v2", "6": "TR_v3"})
	})
}

// TestManySubscriptionsAtOnce: one question for all.
func TestManySubscriptionsAtOnce(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(30, 30)
		c := st.newSolo(t, "PA_c")
		for range 3 { // as livekit-client fills them
			c.lines = append(c.lines, "audio recvonly", "video recvonly")
		}
		c.offer()
		for i := range 30 {
			c.subscribe(fmt.Sprintf("TR_a%d", i), fmt.Sprintf("TR_v%d", i))
		}
		c.wantNext(SectionsNeeded{Audio: 27, Video: 27})
		for range 27 {
			c.lines = append(c.lines, "audio recvonly", "video recvonly")
		}
		c.offer()
		if len(c.tracks) != 60 {
			t.Errorf("the answer names %d tracks, want 60", len(c.tracks))
		}
		ssrcs := map[uint32]bool{}
		for mid := range c.tracks {
			for _, s := range c.section(mid).ssrcs {
				if ssrcs[s] {
					t.Errorf("SSRC %d twice", s)
				}
				ssrcs[s] = true
			}
		}
		if len(ssrcs) != 90 {
			t.Errorf("%d SSRCs, want 90", len(ssrcs))
		}
		c.quiet(time.Minute)
	})
}

// TestQuestionsThatCrossOffers: an offer that was on its way when the question was asked doesn't answer it.
func TestQuestionsThatCrossOffers(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(0, 2)
		c := st.newSolo(t, "PA_c")
		c.lines = []string{"audio sendonly"}
		c.offer()
		c.subscribe("TR_v0")
		c.wantNext(SectionsNeeded{Video: 1})
		c.offer() // crossed
		c.quiet(time.Second)
		c.lines = append(c.lines, "video recvonly")
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_v0"})
		c.quiet(time.Minute)

		// One that crosses and grows for another reason is asked for the rest.
		c.subscribe("TR_v1")
		c.wantNext(SectionsNeeded{Video: 1})
		c.lines = append(c.lines, "audio sendonly")
		c.offer()
		c.wantNext(SectionsNeeded{Video: 1})
		c.lines = append(c.lines, "video recvonly")
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_v0", "3": "TR_v1"})
		c.quiet(time.Minute)
	})
}

// TestClientThatOffersNoMore: it has as many m-lines as it can, or wants. Who finds no place is told once, and takes one
// that becomes free, in the order of subscribing.
func TestClientThatOffersNoMore(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(0, 3)
		c := st.newSolo(t, "PA_c")
		c.lines = []string{"video recvonly"}
		c.offer()
		c.subscribe("TR_v0", "TR_v1", "TR_v2")
		c.wantNext(SectionsNeeded{Video: 2})
		c.offer()
		c.wantTracks(map[string]string{"0": "TR_v0"})
		c.offer() // for the second time
		for _, id := range []string{"TR_v1", "TR_v2"} {
			c.wantNext(SubscriptionStalled{TrackID: id})
		}
		c.quiet(time.Minute)
		c.p.Unsubscribe("TR_v0")
		c.wantNext(SectionsNeeded{Video: 1})
		c.offer()
		c.wantTracks(map[string]string{"0": "TR_v1"})
		c.offer()
		c.quiet(time.Minute) // TR_v2 knows
	})
}

// TestClientThatIgnoresQuestions knows nothing of media_sections_requirement.
func TestClientThatIgnoresQuestions(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(1, 1)
		c := st.newSolo(t, "PA_c")
		c.lines = []string{"audio sendonly"}
		c.offer()
		c.subscribe("TR_a0")
		start := st.server.now()
		for range maxAsks {
			c.wantNext(SectionsNeeded{Audio: 1})
		}
		c.wantNext(SubscriptionStalled{TrackID: "TR_a0"})
		if took := st.server.now() - start; took < maxAsks*askInterval || took > maxAsks*askInterval+time.Second {
			t.Errorf("given up after %v", took)
		}
		c.quiet(time.Hour)
		// A new subscription asks again, for both.
		c.subscribe("TR_v0")
		c.wantNext(SectionsNeeded{Audio: 1, Video: 1})
		c.wantNext(SectionsNeeded{Audio: 1, Video: 1})
		// So does a resume, at once: what was told before may have been lost.
		c.p.RestartICE(Subscriber)
		for range maxAsks {
			c.wantNext(SectionsNeeded{Audio: 1, Video: 1})
		}
		c.wantNext(SubscriptionStalled{TrackID: "TR_v0"})
		c.quiet(time.Hour)
		c.p.RestartICE(Subscriber)
		c.wantNext(SectionsNeeded{Audio: 1, Video: 1})
		// And an offer of its own, if late.
		c.lines = append(c.lines, "audio recvonly", "video recvonly")
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_a0", "2": "TR_v0"})
		c.quiet(time.Hour)
	})
}

// TestNoMoreSectionsThanADescriptionMayHave: a client that obeyed would have its offer refused.
func TestNoMoreSectionsThanADescriptionMayHave(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(0, 100)
		st.server.cfg.Limits.Subscriptions = 190
		c := st.newSolo(t, "PA_c")
		for range 120 { // of the wrong kind
			c.lines = append(c.lines, "audio recvonly")
		}
		c.offer()
		for i := range 100 {
			c.subscribe(fmt.Sprintf("TR_v%d", i))
		}
		c.wantNext(SectionsNeeded{Video: maxSections - 16 - 120})
		for range maxSections - 16 - 120 {
			c.lines = append(c.lines, "video recvonly")
		}
		c.offer()
		if len(c.tracks) != maxSections-16-120 {
			t.Errorf("%d tracks", len(c.tracks))
		}
		for i := maxSections - 16 - 120; i < 100; i++ {
			c.wantNext(SubscriptionStalled{TrackID: fmt.Sprintf("TR_v%d", i)})
		}
		c.quiet(time.Minute)
	})
}

// TestSectionsThatTheClientTakesAway: it stops receiving on an m-line; who was there waits for another.
func TestSectionsThatTheClientTakesAway(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(0, 1)
		c := st.newSolo(t, "PA_c")
		c.subscribe("TR_v0")
		c.lines = []string{"video recvonly"}
		c.offer()
		before := c.section("0").ssrcs
		c.lines[0] = "video inactive"
		c.offer()
		c.wantTracks(map[string]string{})
		c.wantNext(SectionsNeeded{Video: 1})
		c.lines = append(c.lines, "video recvonly")
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_v0"})
		if s := c.section("1"); s.ssrcs[0] == before[0] {
			t.Error("the same SSRC on another m-line")
		}
	})
}

// TestSectionsOnWhichTheClientSends are lent last: who publishes later finds them sendrecv.
func TestSectionsOnWhichTheClientSends(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(0, 2)
		c := st.newSolo(t, "PA_c")
		c.subscribe("TR_v0")
		c.lines = []string{"video sendrecv", "video recvonly"}
		c.offer()
		c.wantTracks(map[string]string{"1": "TR_v0"})
		c.subscribe("TR_v1")
		c.wantNext(SectionsNeeded{})
		c.offer()
		c.wantTracks(map[string]string{"0": "TR_v1", "1": "TR_v0"})
		if s := c.section("0"); !s.sending || !s.receiving {
			t.Errorf("both ways: %+v", s)
		}
		// The client stops to send there: what it receives goes on.
		c.lines[0] = "video recvonly"
		c.offer()
		c.wantTracks(map[string]string{"0": "TR_v1", "1": "TR_v0"})
		if s := c.section("0"); !s.sending || s.receiving {
			t.Errorf("one way: %+v", s)
		}
	})
}

// TestFeedingWaitsForTheAnswer: nothing acknowledges an answer, and packets that come before it are lost.
func TestFeedingWaitsForTheAnswer(t *testing.T) {
	inSimulatedTime(t, func(t *testing.T, st *stage) {
		st.cast(1, 0)
		c := st.newSolo(t, "PA_c")
		c.lines = []string{"audio recvonly"}
		c.offer()
		c.tr.up.Store(true)
		c.tr.out.start()
		c.subscribe("TR_a0")
		c.wantNext(SectionsNeeded{})
		c.offer()
		f := &feed{ssrc: 7, pt: 111, mid: "a0"}
		voice := func() { st.in.one(f.packet(make([]byte, 80), false), st.server.now()); f.timestamp += 960 }
		voice()
		synctest.Wait()
		if n := len(c.sink.packets()); n != 0 {
			t.Errorf("%d packets before the answer can be applied", n)
		}
		time.Sleep(answerDelay)
		synctest.Wait()
		voice()
		synctest.Wait()
		got := c.sink.packets()
		if len(got) == 0 || got[len(got)-1].header.SSRC != c.section("0").ssrcs[0] {
			t.Errorf("%d packets after it", len(got))
		}
	})
}

// TestSimulcastSourcesSurviveARenegotiation: browsers stop to send mid and rid once they are acknowledged, so a source
// that is forgotten can't be found again.
func TestSimulcastSourcesSurviveARenegotiation(t *testing.T) {
	st := newStage(t)
	pub := st.publish("TR_v", Video, videoSection("v", "q", "h", "f"))
	feeds := []*feed{}
	for i, rid := range []string{"q", "h", "f"} {
		feeds = append(feeds, &feed{ssrc: uint32(100 + i), pt: 96, mid: "v", rid: rid})
	}
	send := func() {
		for _, f := range feeds {
			st.in.one(f.packet(f.vp8(true, true), true), st.server.now())
			f.timestamp += 3000
			f.picture++
		}
	}
	send()
	for _, f := range feeds {
		f.mid, f.rid = "", ""
	}
	count := func() (n [3]uint64) {
		for i := range n {
			if l := pub.layers[i].Load(); l != nil {
				l.mu.Lock()
				n[i] = l.stats.Packets
				l.mu.Unlock()
			}
		}
		return n
	}
	for round := range 3 {
		// The client offers again, and has another track the second time.
		if round == 1 {
			st.publish("TR_w", Video, videoSection("w", "q", "h", "f"))
		}
		st.in.describe(st.pub.tracks.sections)
		st.pub.bind()
		before := count()
		send()
		if after := count(); after != [3]uint64{before[0] + 1, before[1] + 1, before[2] + 1} {
			t.Errorf("round %d: packets by layer %v, before %v", round, after, before)
		}
	}
	// Another publication on the m-line begins anew.
	st.pub.Unpublish("TR_v")
	st.pub.tracks.sections[0].track = "cid-x"
	st.pub.Publish(PublicationConfig{ID: "TR_x", CID: "cid-x", Kind: Video})
	before := count()
	send()
	if after := count(); after != before {
		t.Errorf("packets of what was unpublished: %v, before %v", after, before)
	}
}

// TestMsidToken: what a publisher calls its stream can't write lines of others' descriptions.
func TestMsidToken(t *testing.T) {
	for _, name := range []string{"camera", "a-b_c.d|e", "{8f1c}", "!#$%&'*+^`~"} {
		if got := msidToken(name); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
	seen := map[string]string{}
	for _, name := range []string{"x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=y:", "x y", "x\ty", "x:y", "é", "x\x00", "\xff"} {
		got := msidToken(name)
		if strings.Trim(got, "0123456789abcdef") != "" || len(got) != 16 || seen[got] != "" {
			t.Errorf("%q became %q, as did %q", name, got, seen[got])
		}
		seen[got] = name
	}
}
