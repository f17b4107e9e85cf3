package signaling

import (
	"sync"

	"anytime/signaling/room"
)

// worker runs one participant's media calls in order, one at a time: on a goroutine that is there
// while some wait. The queue holds what the room decided; data packets and descriptions, which
// participants make as fast as they can, are bounded here.
type worker struct {
	maxData int
	join    func() Peer // set by start; nil where joining failed

	mu      sync.Mutex
	jobs    []job
	data    int // bytes of data packets in jobs
	asked   int // bytes of the client's descriptions and candidates in jobs
	running bool
	closed  bool
	ended   func() // set by start, nil once it was called

	// Of the goroutine that runs.
	joined bool
	peer   Peer
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
	return &worker{maxData: maxData}
}

// start has the worker join, and then do what is queued. failed learns of a failure to join. ended is
// called once, when the worker has been closed and nothing of it runs any more.
func (w *worker) start(media Media, cfg MediaConfig, failed func(error), ended func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.join = func() Peer {
		peer, err := media.Join(cfg)
		if err != nil {
			failed(err)
			return nil
		}
		return peer
	}
	w.ended = ended
	w.wake()
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
	w.wake()
}

// close drops what is queued, and has the peer closed.
func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed, w.jobs = true, nil
	w.wake()
}

// wake has somebody do what is queued, with mu held. Whether somebody does is settled under mu, here and
// in next: what is queued while the goroutine is about to end keeps it, or starts another.
func (w *worker) wake() {
	if !w.running && w.ended != nil {
		w.running = true
		go w.run()
	}
}

// next takes what is queued. It reports false when that is nothing, and then the goroutine is no more.
func (w *worker) next() (jobs []job, closed, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	jobs, w.jobs = w.jobs, nil
	if len(jobs) == 0 && !w.closed && w.joined {
		w.running = false
		return nil, false, false
	}
	return jobs, w.closed, true
}

// done takes a job off the accounts, and reports whether the worker has been closed.
func (w *worker) done(j job) (closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.data -= j.data
	w.asked -= j.asked
	return w.closed
}

// run is the worker's goroutine.
func (w *worker) run() {
	for {
		jobs, closed, ok := w.next()
		if !ok {
			return
		}
		if closed {
			w.end()
			return
		}
		if !w.joined {
			w.peer, w.joined = w.join(), true
		}
		for _, j := range jobs {
			if w.peer != nil || j.always {
				j.run(w.peer)
			}
			if w.done(j) {
				break
			}
		}
	}
}

func (w *worker) end() {
	if w.peer != nil {
		w.peer.Close()
	}
	w.mu.Lock()
	ended := w.ended
	w.running, w.ended = false, nil
	w.mu.Unlock()
	ended()
}
