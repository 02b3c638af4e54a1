package relay

import (
	"runtime/debug"
	"sync"
	"time"
)

const (
	// trimAfter is how many streams make enough garbage to be worth it: taking
	// a connection from the server leaves its buffers behind, some 16 KiB.
	trimAfter = 256
	// trimCalm is how many may begin within trimEvery for it to be calm.
	trimCalm  = 16
	trimEvery = time.Second
)

// trimmer gives memory back to the system after many streams have begun, once
// it is calm. Left alone, the runtime would keep for minutes what opening them
// needed for a moment.
type trimmer struct {
	mu     sync.Mutex
	timer  *time.Timer
	opened int // since the last time
	seen   int // of those, when the timer was set
	over   bool
}

// began counts a stream.
func (t *trimmer) began() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened++
	if t.timer == nil && t.opened >= trimAfter && !t.over {
		t.seen = t.opened
		t.timer = time.AfterFunc(trimEvery, t.look)
	}
}

// look frees if it is calm, and comes back if it is not.
func (t *trimmer) look() {
	t.mu.Lock()
	calm := t.opened-t.seen < trimCalm
	t.seen = t.opened
	switch {
	case t.over:
	case calm:
		t.timer, t.opened, t.seen = nil, 0, 0
	default:
		t.timer = time.AfterFunc(trimEvery, t.look)
	}
	free := calm && !t.over
	t.mu.Unlock()
	if free {
		debug.FreeOSMemory()
	}
}

func (t *trimmer) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
