package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/jimu-ai/jimu"
)

// priceKeys are the keys of a price, as an operator writes them.
func priceKeys() []string {
	return []string{
		"input", "output", "cached", "cache_write_5m", "cache_write_1h", "reasoning",
		"audio_input", "audio_output", "image_input", "image_output",
		"web_search", "request", "context", "max_output", "abilities",
	}
}

func (l *loader) prices(n *yaml.Node) {
	l.c.pricesRaw, _ = l.toJSON(n, "")
	l.each(n, "prices", nil, func(model string, v *yaml.Node) {
		if p := l.price(model, v); p != nil {
			l.c.Prices[model] = p
		}
	})
}

func (l *loader) price(model string, n *yaml.Node) *jimu.Price {
	p := &jimu.Price{Model: model, Source: l.file}
	before := len(l.problems)
	kinds := map[string]**jimu.Credit{
		"cached": &p.InCached, "cache_write_5m": &p.InCacheWrite5m, "cache_write_1h": &p.InCacheWrite1h,
		"reasoning": &p.OutReasoning, "audio_input": &p.InAudio, "audio_output": &p.OutAudio,
		"image_input": &p.InImage, "image_output": &p.OutImage,
	}
	plain := map[string]*jimu.Credit{"input": &p.In, "output": &p.Out, "web_search": &p.WebSearch, "request": &p.Request}
	var has []string
	l.each(n, "the price of "+model, priceKeys(), func(name string, v *yaml.Node) {
		has = append(has, name)
		key := "prices." + model + "." + name
		switch name {
		case "context":
			l.count(v, key, &p.Context)
			return
		case "max_output":
			l.count(v, key, &p.MaxOutput)
			return
		case "abilities":
			l.abilities(v, key, p)
			return
		}
		c, ok := l.credit(v, key)
		if !ok {
			return
		}
		if to := plain[name]; to != nil {
			*to = c
			return
		}
		*kinds[name] = &c
	})
	if len(l.problems) > before {
		return nil
	}
	if !slices.Contains(has, "input") || !slices.Contains(has, "output") {
		l.bad(n, "the price of %s needs input and output, in %s per million tokens", model, l.c.Currency)
		return nil
	}
	if err := p.Seal(); err != nil {
		l.bad(n, "%v", err)
		return nil
	}
	return p
}

func (l *loader) abilities(n *yaml.Node, key string, p *jimu.Price) {
	l.list(n, key, func(v *yaml.Node) {
		if s, ok := l.text(v, "an entry of "+key); ok {
			p.Abilities = append(p.Abilities, strings.TrimSpace(s))
		}
	})
}
