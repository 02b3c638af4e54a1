package relay

import (
	"github.com/jimu-ai/jimu"
)

// Who pays for what (the one who caused it):
//
//	refused, or failed before an upstream answered     nothing
//	200, then broken before any content                nothing
//	broken by the upstream, or by us, after content    input and what was delivered
//	complete, with usage                               the usage, if it can be true
//	complete, with usage that cannot be true           what was metered, at most the hold; quarantined
//	complete, without usage                            what was metered, marked as estimated
//	client gone before content, request sent           the input
//	client gone later                                  input and what was generated so far,
//	                                                   or, with the policy "drain", the exact usage
//	several attempts                                   the one delivered

// slack is how many tokens of input an upstream may add of its own (a tool's
// description, the results of a search) without being doubted.
const slack = 64 << 10

// bill settles the hold, or releases it if nothing is owed. It returns what
// was taken.
func (j *job) bill(err error) {
	if j.settled || j.hold == nil {
		return
	}
	j.settled = true
	u, cost := j.charge()
	if cost == 0 {
		j.hold.Release()
		j.rec.Usage = u
		return
	}
	if held := j.hold.Amount(); cost > held && err == nil && !j.rec.Quarantined && j.cut.Load() != cutGone {
		_ = j.hold.Extend(j.r.background, cost-held) // refused: the hold is all that is taken
	}
	taken, serr := j.hold.Settle(&jimu.Charge{
		Request: j.rec.Request, Cost: cost, Model: j.call.Model, Price: j.price, Usage: u, Began: j.began,
	})
	if serr != nil {
		j.r.count.unsettled.Add(1)
		j.r.o.Log.Error("a charge was not booked", "request", j.rec.Request, "cost", cost, "error", serr)
	}
	j.rec.Usage, j.rec.Cost, j.rec.Price = u, taken, j.price.Version()
}

// charge decides what a request is charged for, and how much that is.
func (j *job) charge() (jimu.Usage, jimu.Credit) {
	switch {
	case j.content && j.meter.Stated && (j.finished || j.eof):
		if u := j.meter.Usage; j.believable(&u) {
			if cost, err := j.price.Cost(&u, j.began); err == nil {
				return u, cost
			}
		}
		j.rec.Quarantined = true
		j.r.count.quarantined.Add(1)
		j.r.o.Log.Warn("an upstream states a usage that cannot be true", "request", j.rec.Request, "upstream", j.target.Upstream.Name)
		cost := min(j.spent(), j.hold.Amount())
		return j.counted, cost
	case j.content:
		if u := j.meter.Usage; j.meter.Stated && j.believable(&u) && u.Out() >= j.meter.Delivered/2 {
			return u, j.priced(&u) // it keeps its usage up to date
		}
		cost := j.spent()
		return j.counted, cost
	case j.accepted && j.cut.Load() == cutGone:
		u := jimu.Usage{InText: j.estimate, Estimated: true}
		return u, j.priced(&u)
	}
	return jimu.Usage{}, 0
}

// priced prices a usage that we counted; beyond all bounds it is the hold.
func (j *job) priced(u *jimu.Usage) jimu.Credit {
	cost, err := j.price.Cost(u, j.began)
	if err != nil {
		return j.hold.Amount()
	}
	return cost
}

// believable reports whether a stated usage can be true for this request.
func (j *job) believable(u *jimu.Usage) bool {
	if !u.Sane(j.price.Context * j.call.N) {
		return false
	}
	most := j.price.MaxOutput
	if most == 0 {
		most = 1 << 20
	}
	most = max(most, j.call.MaxTokens) * j.call.N
	return u.In() <= j.call.InputBound+slack && u.Out() <= most+slack
}
