package relay

import (
	"context"

	"github.com/jimu-ai/jimu"
)

// leastOutput is the shortest answer, in tokens, that is worth beginning.
const leastOutput = 16

// reserve sets credit aside for a request: its input at the most, and the
// output that it may have, or usually has. Where the account affords less
// output than that, the gateway sets the request's own limit.
func (j *job) reserve(ctx context.Context, targets []*jimu.Target) error {
	if len(targets) == 0 {
		return jimu.Errorf(jimu.Unavailable, "no upstream serves the model %s at the moment", j.call.Model)
	}
	j.price = targets[0].Price
	if j.price == nil {
		return jimu.Errorf(jimu.NoPrice, "the model %s has no price, so it is not sold", j.call.Model)
	}
	likely, most := j.outputs()
	want, err := j.cost(likely)
	if err != nil {
		return err
	}
	least, err := j.cost(min(likely, leastOutput))
	if err != nil {
		return err
	}
	if most > 0 {
		if j.ceiling, err = j.cost(most); err != nil {
			return err
		}
	}
	if j.step, err = j.price.Cost(&jimu.Usage{OutText: j.r.o.TypicalOutput}, j.began); err != nil {
		return err
	}
	j.hold, err = j.r.o.Ledger.Hold(ctx, &Order{
		Request: j.rec.Request, Account: j.caller.Account, Budget: j.caller.Budget, Model: j.call.Model,
		Want: want, Least: least, Price: j.price, Began: j.began,
	})
	if err != nil {
		return err
	}
	if held := j.hold.Amount(); held < want && likely > 0 {
		j.call.MaxTokens = max(j.affords(held, likely)/j.call.N, 1)
		j.call.SetMaxTokens = true
		j.ceiling = held
	}
	return nil
}

// outputs returns how many tokens of output a request likely has, and how many
// it may have; 0 is unknown. An answer that is not streamed cannot be ended
// midway, so all that it may have is likely.
func (j *job) outputs() (likely, most int64) {
	if j.call.Op == jimu.OpEmbeddings {
		return 0, 0
	}
	each := j.call.MaxTokens
	if limit := j.price.MaxOutput; limit > 0 && (each == 0 || each > limit) {
		each = limit
	}
	typical := j.r.o.TypicalOutput
	switch {
	case each == 0:
		return typical * j.call.N, 0
	case j.call.Stream:
		return min(each, typical) * j.call.N, each * j.call.N
	}
	return each * j.call.N, each * j.call.N
}

// cost prices a request with the most input it can have.
func (j *job) cost(output int64) (jimu.Credit, error) {
	in := j.call.InputBound
	if c := j.price.Context; c > 0 {
		in = min(in, c)
	}
	return j.price.Cost(&jimu.Usage{InText: in, OutText: output}, j.began)
}

// affords returns the most output, up to a limit, that an amount pays for.
func (j *job) affords(amount jimu.Credit, limit int64) int64 {
	low, high := int64(0), limit // low is affordable
	for low < high {
		mid := low + (high-low+1)/2
		if c, err := j.cost(mid); err == nil && c <= amount {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// spent counts what has been delivered so far in j.counted, and prices it.
func (j *job) spent() jimu.Credit {
	j.counted = jimu.Usage{InText: j.estimate, OutText: j.meter.Delivered, Estimated: true}
	return j.priced(&j.counted)
}

// progress notes what has been delivered, and extends the hold once nine
// tenths of it are. It fails when there is no more credit.
func (j *job) progress() error {
	if j.settled {
		return nil
	}
	cost, held := j.spent(), j.hold.Amount()
	j.hold.Meter(min(cost, held), &j.counted)
	if cost < held-held/10 || (j.ceiling > 0 && held >= j.ceiling) {
		return nil
	}
	if j.cut.Load() == cutGone { // it is read on up to the hold, and no further
		if cost >= held {
			return &jimu.Error{Code: jimu.NoCredit, Text: "the client went away, and its hold is used up"}
		}
		return nil
	}
	return j.extend(cost, held)
}

// extend sets more credit aside for a stream.
func (j *job) extend(cost, held jimu.Credit) (err error) {
	by := j.step
	if j.ceiling > 0 {
		by = min(by, j.ceiling-held)
	}
	for try := 0; try < 3 && by > 0; try++ {
		if err = j.hold.Extend(j.r.background, by); err == nil {
			return nil
		}
		by /= 4
	}
	if err == nil {
		return nil
	}
	if jimu.ErrorOf(err).Code != jimu.NoCredit && cost < held {
		return nil // the books cannot be reached; what is held still counts
	}
	return &jimu.Error{Code: jimu.NoCredit, Text: "the credit ran out, so the answer ends here: top up to go on", Err: err}
}
