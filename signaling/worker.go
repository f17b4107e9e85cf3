package signaling

import "sync"

// worker runs one participant's media calls in order, on one goroutine. The queue holds what the
// room decided; only data packets, which participants make as fast as they can, are bounded here.
type worker struct {
	maxData int

	mu     sync.Mutex
	jobs   []job
	data   int // bytes of data packets in jobs
	closed bool
	wake   chan struct{} // capacity 1
}

type job struct {
	run  func(Peer)
	data int
}

func newWorker(maxData int) *worker {
	return &worker{maxData: maxData, wake: make(chan struct{}, 1)}
}

// do queues a media call. After close nothing is queued any more.
func (w *worker) do(run func(Peer)) { w.push(job{run: run}) }

// sendData queues a data packet. It reports false when the queue is full; the packet is dropped.
func (w *worker) sendData(reliable bool, payload []byte, failed func(error)) bool {
	w.mu.Lock()
	full := w.data+len(payload) > w.maxData
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

// run is the worker's goroutine: it joins, works, and closes. joined learns of a failure to join;
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
			if err == nil {
				j.run(peer)
			}
			w.mu.Lock()
			w.data -= j.data
			closed = w.closed
			w.mu.Unlock()
			if closed {
				return
			}
		}
	}
}
