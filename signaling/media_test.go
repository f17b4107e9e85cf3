package signaling

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// fakeMedia is an SFU without media: it answers offers, starts the publications whose cid an offer
// contains, ends those that a later offer lacks, and records what it is told.
type fakeMedia struct {
	mu    sync.Mutex
	peers map[string]*fakePeer
	fail  error // of Join
	open  int   // peers that were not closed
}

func newFakeMedia() *fakeMedia { return &fakeMedia{peers: map[string]*fakePeer{}} }

func (m *fakeMedia) Join(cfg MediaConfig) (Peer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	p := &fakePeer{media: m, cfg: cfg, tracks: map[string]*fakeTrack{}, subs: map[string]bool{}}
	m.peers[cfg.ID] = p
	m.open++
	if !cfg.Single {
		p.offer()
	}
	return p, nil
}

func (m *fakeMedia) peer(id string) *fakePeer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers[id]
}

func (m *fakeMedia) all() []*fakePeer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.peers))
}

type fakeTrack struct {
	Publication
	started bool
}

type fakePeer struct {
	media *fakeMedia
	cfg   MediaConfig

	mu       sync.Mutex
	calls    []string
	tracks   map[string]*fakeTrack
	subs     map[string]bool
	data     [][]byte
	resent   [][]byte
	room     string // after a move
	failMove error
	settings map[string]SubscriptionSettings
	offers   uint32
	closed   bool
	block    chan struct{} // SendData waits for it
	failSub  error
	failData error
}

func (p *fakePeer) note(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
}

// offer emits the next subscriber offer.
func (p *fakePeer) offer() {
	p.mu.Lock()
	p.offers++
	id := p.offers
	p.mu.Unlock()
	p.cfg.Notify(OfferReady{ID: id, SDP: "v=0\r\ns=subscriber\r\n"})
}

func (p *fakePeer) Offer(sdp string) (Answer, error) {
	p.note("offer")
	if strings.Contains(sdp, "garbage") {
		return Answer{}, errors.New("no m-line makes sense")
	}
	p.mu.Lock()
	var events []MediaEvent
	for id, t := range p.tracks {
		has := strings.Contains(sdp, t.CID)
		switch {
		case has && !t.started:
			t.started = true
			mime := "audio/opus"
			if t.Video {
				mime = "video/VP8"
			}
			events = append(events, PublicationStarted{TrackID: id, MimeType: mime})
		case !has && t.started:
			delete(p.tracks, id)
			events = append(events, PublicationEnded{TrackID: id})
		}
	}
	if strings.Contains(sdp, "s=crowded") {
		events = append(events, SectionsNeeded{Video: 1}) // noticed before the answer is on its way
	}
	p.mu.Unlock()
	for _, e := range events {
		p.cfg.Notify(e)
	}
	answer := Answer{SDP: "v=0\r\ns=answer\r\n"}
	if p.cfg.Single {
		answer.MidToTrack = map[string]string{"0": "TR_x"}
	}
	return answer, nil
}

func (p *fakePeer) Answer(uint32, string) error           { p.note("answer"); return nil }
func (p *fakePeer) Candidate(t Target, init string) error { p.note("candidate " + init); return nil }
func (p *fakePeer) RestartICE(Target)                     { p.note("restart"); p.offer() }

func (p *fakePeer) Publish(pub Publication) error {
	p.note("publish " + pub.CID)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracks[pub.ID] = &fakeTrack{Publication: pub}
	return nil
}

func (p *fakePeer) AddCodec(id string, c PublicationCodec) error {
	p.note("codec " + id + " " + c.MimeType + " " + c.CID)
	return nil
}

func (p *fakePeer) Unpublish(id string) {
	p.note("unpublish " + id)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tracks, id)
}

func (p *fakePeer) SetMuted(id string, muted bool) {
	if muted {
		p.note("mute " + id)
	} else {
		p.note("unmute " + id)
	}
}

func (p *fakePeer) Subscribe(id string) error {
	p.note("subscribe " + id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failSub != nil {
		return p.failSub
	}
	p.subs[id] = true
	return nil
}

func (p *fakePeer) Unsubscribe(id string) {
	p.note("unsubscribe " + id)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subs, id)
}

func (p *fakePeer) SetVoices(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprint("voices ", n))
}

func (p *fakePeer) Configure(id string, s SubscriptionSettings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settings == nil {
		p.settings = map[string]SubscriptionSettings{}
	}
	p.settings[id] = s
	p.calls = append(p.calls, "configure "+id)
}

func (p *fakePeer) SendData(_ bool, b []byte) error {
	p.mu.Lock()
	block, err := p.block, p.failData
	p.mu.Unlock()
	if block != nil {
		<-block
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = append(p.data, b)
	p.calls = append(p.calls, "data")
	return nil
}

func (p *fakePeer) ResendData(list [][]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resent = append(p.resent, list...)
	p.calls = append(p.calls, "resend")
	return p.failData
}

func (p *fakePeer) Move(room string) error {
	p.note("move " + room)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failMove != nil {
		return p.failMove
	}
	p.room = room
	p.subs = map[string]bool{}
	return nil
}

func (p *fakePeer) Show(room string) error { p.note("show " + room); return nil }
func (p *fakePeer) Hide(room string)       { p.note("hide " + room) }

func (p *fakePeer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.media.mu.Lock()
	defer p.media.mu.Unlock()
	p.media.open--
}

// did reports whether a call was made.
func (p *fakePeer) did(call string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c == call {
			return true
		}
	}
	return false
}
