package mock

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DemoModel is the only model of the demo upstream.
const DemoModel = "jimu-demo"

const (
	demoPace   = 25 * time.Millisecond // the shortest time between two pieces
	demoJitter = 15 * time.Millisecond // and what may come on top
	echoLen    = 60                    // characters of the question that are repeated
)

// DemoOptions set up a demo upstream. The zero value is the real one.
type DemoOptions struct {
	Pace   time.Duration                           // between two pieces; default 25 to 40 ms, below 0 none
	Jitter func(below time.Duration) time.Duration // randomness; default rand.N
	Now    func() time.Time                        // default time.Now
}

// Demo is the upstream of a fresh installation. It speaks the OpenAI dialect
// without a key, knows one model, [DemoModel], and streams at a human pace an
// answer in the language of the question, which says that no model was asked.
// Its usage is estimated by [EstimateTokens].
func Demo(o DemoOptions) http.Handler {
	m := New(Options{Models: []string{DemoModel}, Keyless: true, Now: o.Now})
	m.faults = nil
	m.count = EstimateTokens
	jitter := o.Jitter
	if jitter == nil {
		jitter = rand.N[time.Duration]
	}
	m.pause = func() time.Duration {
		if o.Pace != 0 {
			return max(o.Pace, 0)
		}
		return demoPace + jitter(demoJitter)
	}
	m.write = m.demo
	return m
}

// EstimateTokens estimates the tokens of a text by the class of its
// characters: four letters are a token, two digits or signs, and most Chinese
// characters one each.
func EstimateTokens(text string) int64 {
	var quarters int64
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf && (unicode.IsLetter(r) || r == ' '):
			quarters++
		case r < 0x800:
			quarters += 2
		case r < 0x10000:
			quarters += 4
		default:
			quarters += 8
		}
	}
	return (quarters + 3) / 4
}

// demo gives the demo's answer.
func (m *Mock) demo(a *ask) {
	if a.model != DemoModel {
		a.model = DemoModel
	}
	a.tool = ""
	a.text = demoAnswer(a.last)
	if a.max > 0 && m.count(a.text) > a.max {
		a.text, a.cut = first(a.text, a.max), true
	}
	for _, s := range a.stops {
		if before, _, ok := strings.Cut(a.text, s); ok && s != "" {
			a.text, a.cut = before, false
		}
	}
	a.pieces = strokes(a.text)
	m.complete(a)
}

// first cuts a text to at most n tokens.
func first(text string, n int64) string {
	low, high := 0, len(text)
	for low < high {
		mid := (low + high + 1) / 2
		if EstimateTokens(text[:mid]) <= n {
			low = mid
		} else {
			high = mid - 1
		}
	}
	for low > 0 && low < len(text) && !utf8.RuneStart(text[low]) {
		low--
	}
	return text[:low]
}

// strokes cuts a text as a model streams it: by words and by few Chinese
// characters.
func strokes(text string) []string {
	var out []string
	start, wide := 0, 0
	for i, r := range text {
		size := i - start
		if r >= 0x2e80 {
			wide++
		}
		if size > 0 && ((r == ' ' && size > 2) || wide > 2 || size > 12) {
			out = append(out, text[start:i])
			start, wide = i, 0
		}
	}
	if start < len(text) || len(out) == 0 {
		out = append(out, text[start:])
	}
	return out
}

// demoAnswer writes the answer to a question.
func demoAnswer(question string) string {
	question = strings.Join(strings.Fields(question), " ")
	chinese := strings.IndexFunc(question, func(r rune) bool { return unicode.Is(unicode.Han, r) }) >= 0
	if r := []rune(question); len(r) > echoLen {
		question = string(r[:echoLen]) + "\u2026"
	}
	question = strings.NewReplacer("`", "'", "*", "\u2217", "_", "\u02cd", "<", "\u2039", ">", "\u203a", "|", "\u2223", "[", "(", "]", ")").Replace(question)
	if chinese {
		return strings.Replace(demoChinese, "QUESTION", question, 1)
	}
	return strings.Replace(demoEnglish, "QUESTION", cmp.Or(question, "\u2026"), 1)
}

const demoChinese = `## 这里是积木的演示

你问的是：“QUESTION”

**这段文字来自内置的演示上游，没有任何模型被调用。**它只是让你看到：请求已经走完了整条路——鉴权、限额、预留额度、路由、流式转发，最后把账记进了账本。

| 步骤 | 发生了什么 |
|---|---|
| 预留 | 先从余额里留出最多可能花掉的额度 |
| 转发 | 上游每来一段，就立刻送到你这里 |
| 结算 | 按真实用量计费，多留的**当场退回** |

接下来可以：

1. 添加一个真正的上游，例如 **DeepSeek**、**通义千问**，或本机的 **Ollama**
2. 创建一个 API 密钥，用官方 SDK 调用
3. 在“用量”里查看这次请求花了多少

` + "```sh\njimu upstream add main --vendor deepseek --key env:DEEPSEEK_API_KEY\n```" + `

添加之后再问一次，回答的就是真正的模型了。
`

const demoEnglish = `## This is the Jimu demo

You asked: "QUESTION"

**This text comes from the built-in demo upstream. No model was asked.** It shows that your request went the whole way: authentication, limits, a hold on your credit, routing, streaming, and a bill in the ledger.

| Step | What happened |
|---|---|
| Hold | the most this request could cost was set aside |
| Relay | every piece went to you as soon as it came |
| Settle | only what was used is charged, the rest **goes back at once** |

What you can do next:

1. Add a real upstream, such as **OpenAI**, **DeepSeek** or a local **Ollama**
2. Make an API key and use it with the official SDKs
3. See under *Usage* what this request cost

` + "```sh\njimu upstream add main --vendor openai --key env:OPENAI_API_KEY\n```" + `

Ask again after that, and a real model will answer.
`
