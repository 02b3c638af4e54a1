package app

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How the heap is kept. Under load a collection must be worth more garbage: at
// Go's own setting, which suits large heaps, it takes a tenth of the processor.
// In quiet times every MiB counts on a small server, and what a burst left
// behind (the buffers of connections that became streams, a password's hash)
// is given back.
const (
	busyPercent  = 300
	quietPercent = 50
	busyRate     = 16 << 20 // bytes allocated in a second
	worthBack    = 4 << 20  // bytes
)

// keepMemory adapts the collector once a second.
func (f *faces) keepMemory(ctx context.Context) {
	debug.SetGCPercent(quietPercent)
	now := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
	}
	metrics.Read(now)
	allocated := now[0].Value.Uint64()
	var kept uint64 // what was left in use the last time
	busy := false
	f.every(ctx, time.Second, func(context.Context) {
		metrics.Read(now)
		rate := now[0].Value.Uint64() - allocated
		allocated += rate
		if was := busy; was != (rate > busyRate) {
			busy = !was
			debug.SetGCPercent(map[bool]int{true: busyPercent, false: quietPercent}[busy])
		}
		held := now[1].Value.Uint64() + now[2].Value.Uint64()
		if !busy && held > kept+worthBack {
			debug.FreeOSMemory()
			metrics.Read(now)
			held = now[1].Value.Uint64() + now[2].Value.Uint64()
			kept = held
		}
		kept = min(kept, held)
	})
}
