// The official Node client against the real binary. The Go test TestNode
// starts the server and says where it is.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'

const { JIMU_URL, JIMU_KEY, JIMU_POOR, JIMU_SLOW } = process.env
const priceIn = 3n // credits per million tokens
const priceOut = 7n

const client = (apiKey = JIMU_KEY) => new OpenAI({ apiKey, baseURL: `${JIMU_URL}/v1`, maxRetries: 0 })
const question = (model = 'mock-model') => ({
  model,
  messages: [{ role: 'user', content: 'Why is the sky blue?' }],
})

/** What usage costs, as the API writes it. */
function cost(usage) {
  const nano = (BigInt(usage.prompt_tokens) * priceIn + BigInt(usage.completion_tokens ?? 0) * priceOut) * 1000n
  const s = nano.toString().padStart(10, '0')
  return `${s.slice(0, -9)}.${s.slice(-9)}`.replace(/\.?0+$/, '')
}

/** The row of a request in the usage list. */
async function row(id) {
  for (let i = 0; i < 100; i++) {
    const res = await fetch(`${JIMU_URL}/api/usage?limit=100`, { headers: { authorization: `Bearer ${JIMU_KEY}` } })
    const found = (await res.json()).data.find((r) => r.request === id)
    if (found) return found
    await new Promise((done) => setTimeout(done, 20))
  }
  assert.fail(`request ${id} is not in the usage list`)
}

test('chat', async () => {
  const { data, response } = await client().chat.completions.create(question()).withResponse()
  assert.ok(data.choices[0].message.content.length > 0)
  assert.equal(data.choices[0].finish_reason, 'stop')
  assert.equal(response.headers.get('x-jimu-cost'), cost(data.usage))
  const billed = await row(response.headers.get('x-request-id'))
  assert.equal(billed.cost, cost(data.usage))
})

test('stream', async () => {
  const whole = await client().chat.completions.create(question())
  for (const include_usage of [true, false]) {
    const { data, response } = await client()
      .chat.completions.create({ ...question(), stream: true, stream_options: { include_usage } })
      .withResponse()
    let text = ''
    let usage = null
    let finish = null
    for await (const chunk of data) {
      text += chunk.choices[0]?.delta?.content ?? ''
      finish = chunk.choices[0]?.finish_reason ?? finish
      usage = chunk.usage ?? usage
    }
    assert.equal(text, whole.choices[0].message.content)
    assert.equal(finish, 'stop')
    assert.deepEqual(usage, include_usage ? whole.usage : null)
    assert.equal((await row(response.headers.get('x-request-id'))).cost, cost(whole.usage))
  }
})

test('leaving a stream', async () => {
  for await (const chunk of await client().chat.completions.create({ ...question(), stream: true })) {
    assert.ok(chunk.id)
    break
  }
  assert.ok(await client().chat.completions.create(question()))
})

test('tools', async () => {
  const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }]
  const got = await client().chat.completions.create({ ...question(), tools })
  const call = got.choices[0].message.tool_calls[0]
  assert.equal(call.function.name, 'weather')
  const after = await client().chat.completions.create({
    ...question(),
    tools,
    messages: [...question().messages, got.choices[0].message, { role: 'tool', tool_call_id: call.id, content: '12' }],
  })
  assert.equal(after.choices[0].finish_reason, 'stop')
})

test('embeddings', async () => {
  const { data, response } = await client()
    .embeddings.create({ model: 'embed', input: ['one', 'two'] })
    .withResponse()
  assert.equal(data.data.length, 2)
  assert.ok(Math.abs(data.data[0].embedding[1] - 0.125) < 1e-6)
  assert.equal((await row(response.headers.get('x-request-id'))).cost, cost(data.usage))
})

test('models', async () => {
  const ids = []
  for await (const model of client().models.list()) ids.push(model.id)
  assert.ok(ids.includes('mock-model'), ids.join())
})

test('errors', async () => {
  await client(JIMU_SLOW).chat.completions.create(question())
  for (const [key, model, kind, status, code] of [
    ['jm_wrong', 'mock-model', OpenAI.AuthenticationError, 401, 'unauthorized'],
    [JIMU_POOR, 'mock-model', OpenAI.APIError, 402, 'insufficient_credit'],
    [JIMU_KEY, 'nothing', OpenAI.NotFoundError, 404, 'not_found'],
    [JIMU_SLOW, 'mock-model', OpenAI.RateLimitError, 429, 'rate_limited'],
  ]) {
    for (const stream of [false, true]) {
      await assert.rejects(client(key).chat.completions.create({ ...question(model), stream }), (err) => {
        assert.ok(err instanceof kind, `${model}: ${err}`)
        assert.equal(err.status, status)
        assert.equal(err.code, code)
        assert.ok(err.message && err.type && err.requestID)
        return true
      })
    }
  }
})

test('an error in the middle of a stream', async () => {
  const stream = await client().chat.completions.create({ ...question('mock-error-mid'), stream: true })
  await assert.rejects(async () => {
    for await (const chunk of stream) assert.ok(chunk)
  })
})
