package signaling

import (
	"sync"

	"anytime/signaling/room"
)

// worker runs one participant's media calls in order, on one goroutine. The queue holds what the
// room decided; data packets and descriptions, which participants make as fast as they can, are
// bounded here.
type worker struct {
	maxData int

	mu     sync.Mutex
	jobs   []job
	data   int // bytes of data packets in jobs
	asked  int // bytes of the client's descriptions and candidates in jobs
	closed bool
	wake   chan struct{} // capacity 1
}

type job struct {
	run         func(Peer)
	data, asked int
	always      bool // even without a peer, when joining has failed
}

// maxAsked bounds the bytes of descriptions and candidates of a client's that wait: an offer of the
// largest kind takes hundreds of milliseconds to answer, and a client may send a hundred a second.
// jobBytes is what each costs beside its text.
const (
	maxAsked = 2 << 20
	jobBytes = 256
)

func newWorker(maxData int) *worker {
	return &worker{maxData: maxData, wake: make(chan struct{}, 1)}
}

// do queues a media call. After close nothing is queued any more.
func (w *worker) do(run func(Peer)) { w.push(job{run: run}) }

// always queues a media call that is made with nil where media could not be set up.
func (w *worker) always(run func(Peer)) { w.push(job{run: run, always: true}) }

// ask queues a media call over a text of the client's. It fails when too much of that waits.
func (w *worker) ask(text string, run func(Peer)) error {
	size := len(text) + jobBytes
	w.mu.Lock()
	full := w.asked+size > maxAsked
	w.mu.Unlock()
	if full {
		return &room.Refusal{Code: room.LimitExceeded, Text: "too many descriptions wait: slow down"}
	}
	w.push(job{asked: size, run: run})
	return nil
}

// sendData queues a data packet. It reports false when the queue is full; the packet is dropped. Lossy
// packets may fill a quarter of it: they are the first to go.
func (w *worker) sendData(reliable bool, payload []byte, failed func(error)) bool {
	w.mu.Lock()
	most := w.maxData
	if !reliable {
		most /= 4
	}
	full := w.data+len(payload) > most
	w.mu.Unlock()
	if full {
		return false
	}
	w.push(job{data: len(payload), run: func(p Peer) {
		if err := p.SendData(reliable, payload); err != nil {
			failed(err)
		}
	}})
	return true
}

func (w *worker) push(j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.jobs = append(w.jobs, j)
	w.data += j.data
	w.asked += j.asked
	w.signal()
}

// close drops what is queued; run closes the peer and returns.
func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed, w.jobs = true, nil
	w.signal()
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run is the worker's goroutine: it joins, works, and closes. failed learns of a failure to join;
// whatever was queued is then dropped.
func (w *worker) run(media Media, cfg MediaConfig, failed func(error)) {
	peer, err := media.Join(cfg)
	if err != nil {
		failed(err)
	} else {
		defer peer.Close()
	}
	for range w.wake {
		w.mu.Lock()
		jobs, closed := w.jobs, w.closed
		w.jobs = nil
		w.mu.Unlock()
		if closed {
			return
		}
		for _, j := range jobs {
			if err == nil || j.always {
				j.run(peer)
			}
			w.mu.Lock()
			w.data -= j.data
			w.asked -= j.asked
			closed = w.closed
			w.mu.Unlock()
			if closed {
				return
			}
		}
	}
}
