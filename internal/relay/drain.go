package relay

import "context"

// enter counts a request in, unless the relay is draining.
func (r *Relay) enter(j *job) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return errDraining()
	}
	r.running[j] = struct{}{}
	return nil
}

// leave counts a request out.
func (r *Relay) leave(j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, j)
	if r.closing && len(r.running) == 0 {
		r.finished()
	}
}

// finished says that no request runs any more. It is called with the lock held.
func (r *Relay) finished() {
	select {
	case <-r.idle:
	default:
		close(r.idle)
	}
}

// Drain refuses new requests and waits for the running ones. When ctx ends it
// ends those that still run, with an error event where they stream, and
// settles them. The relay cannot be used afterwards.
func (r *Relay) Drain(ctx context.Context) {
	r.mu.Lock()
	r.closing = true
	if len(r.running) == 0 {
		r.finished()
	}
	r.mu.Unlock()
	select {
	case <-r.idle:
	case <-ctx.Done():
		r.mu.Lock()
		left := make([]*job, 0, len(r.running))
		for j := range r.running {
			left = append(left, j)
		}
		r.mu.Unlock()
		for _, j := range left {
			j.cutShort(cutDrain)
		}
		<-r.idle
	}
	r.watch.close()
}
