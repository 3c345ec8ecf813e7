package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// The pool keeps Threads()-1 goroutines that first spin and then park, because
// starting a goroutine per product costs as much as the product itself. The
// goroutine that calls takes part and never waits for a worker that has not
// begun: a worker that wakes late finds the job closed and goes back to sleep.

// runner is one parallel job: run works on items lo to hi.
type runner interface {
	run(lo, hi int)
}

// funcRunner lets a plain function be a job.
type funcRunner func(lo, hi int)

func (f funcRunner) run(lo, hi int) { f(lo, hi) }

const (
	jobOpen    = 1 << 32     // bit of pool.state: workers may join
	jobEpoch   = 1 << 33     // one step of the job number held in the high bits
	joinedMask = jobOpen - 1 // low bits: workers inside the job
	spinRounds = 1500        // rounds of spinBackoff before a worker parks
)

type pool struct {
	busy  sync.Mutex // held by the goroutine whose job runs
	state atomic.Uint64
	next  atomic.Int64 // first item not handed out

	// The job; written while it is closed and no worker is inside.
	job   runner
	items int
	chunk int
	// panicked is what the job panicked with on a worker.
	panicked atomic.Pointer[any]

	workers []*worker
}

type worker struct {
	parked atomic.Bool
	wake   chan bool // true: look for a job, false: exit
}

var workPool = struct {
	sync.Mutex
	p atomic.Pointer[pool]
}{}

func newPool(threads int) *pool {
	p := &pool{}
	for range threads - 1 {
		w := &worker{wake: make(chan bool, 1)}
		p.workers = append(p.workers, w)
		go p.serve(w)
	}
	return p
}

func currentPool() *pool {
	if p := workPool.p.Load(); p != nil {
		return p
	}
	workPool.Lock()
	defer workPool.Unlock()
	if p := workPool.p.Load(); p != nil {
		return p
	}
	p := newPool(runtime.GOMAXPROCS(0))
	workPool.p.Store(p)
	return p
}

// Threads returns the number of goroutines that share a job, the caller
// included. It is GOMAXPROCS until SetThreads is called.
func Threads() int { return len(currentPool().workers) + 1 }

// SetThreads sets the number of goroutines that share a job; n < 1 means
// GOMAXPROCS. Results do not depend on it.
func SetThreads(n int) {
	if n < 1 {
		n = runtime.GOMAXPROCS(0)
	}
	workPool.Lock()
	defer workPool.Unlock()
	old := workPool.p.Load()
	if old != nil && len(old.workers)+1 == n {
		return
	}
	workPool.p.Store(newPool(n))
	if old != nil {
		old.busy.Lock() // wait for its last job; it stays locked: later users run inline
		for _, w := range old.workers {
			w.wake <- false
		}
	}
}

// Parallel calls f on ranges that cover 0 to n, each a multiple of grain long
// except the last, from several goroutines at once. Ranges never overlap, and a
// call from inside f runs f directly. f must not depend on how the ranges fall. A
// panic of f is a panic of Parallel.
func Parallel(n, grain int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	grain = max(grain, 1)
	p := currentPool()
	t := len(p.workers) + 1
	// Four ranges a worker leave room to balance when a core is taken away.
	chunk := (n + 4*t - 1) / (4 * t)
	chunk = (chunk + grain - 1) / grain * grain
	p.run(funcRunner(f), n, chunk)
}

// run hands out items of j in chunks until all are done.
func (p *pool) run(j runner, items, chunk int) {
	if len(p.workers) == 0 || items <= chunk || !p.busy.TryLock() {
		j.run(0, items)
		return
	}
	defer p.busy.Unlock()
	p.job, p.items, p.chunk = j, items, chunk
	p.next.Store(0)
	p.state.Add(jobEpoch | jobOpen)
	for _, w := range p.workers {
		if w.parked.CompareAndSwap(true, false) {
			w.wake <- true
		}
	}
	// Deferred, so that a panic of the job on this goroutine leaves the pool usable.
	defer p.close()
	p.work()
}

// close ends the job and waits for the workers inside it.
func (p *pool) close() {
	p.next.Store(int64(p.items))
	p.state.Add(^uint64(jobOpen - 1)) // subtract jobOpen
	for i := 0; p.state.Load()&joinedMask != 0; i++ {
		if i < spinRounds {
			spinBackoff()
		} else {
			runtime.Gosched()
		}
	}
	p.job = nil
	if v := p.panicked.Swap(nil); v != nil {
		panic(*v)
	}
}

func (p *pool) work() {
	for {
		lo := int(p.next.Add(int64(p.chunk))) - p.chunk
		if lo >= p.items {
			return
		}
		p.job.run(lo, min(lo+p.chunk, p.items))
	}
}

// help works on the open job and leaves it; a panic is kept for the caller.
func (p *pool) help() {
	defer p.state.Add(^uint64(0))
	defer func() {
		if v := recover(); v != nil {
			p.next.Store(int64(p.items))
			p.panicked.Store(&v)
		}
	}()
	p.work()
}

// serve is the life of a worker.
func (p *pool) serve(w *worker) {
	var seen uint64
	for {
		joined := false
		for i := 0; i < spinRounds; i++ {
			s := p.state.Load()
			if s&jobOpen != 0 && s/jobEpoch != seen {
				if p.state.CompareAndSwap(s, s+1) {
					seen = s / jobEpoch
					joined = true
					break
				}
				continue
			}
			spinBackoff()
		}
		if joined {
			p.help()
			continue
		}
		w.parked.Store(true)
		// A job opened since the last look would not know that we sleep.
		if s := p.state.Load(); s&jobOpen != 0 && s/jobEpoch != seen {
			if w.parked.CompareAndSwap(true, false) {
				continue
			}
		}
		if !<-w.wake {
			return
		}
	}
}
