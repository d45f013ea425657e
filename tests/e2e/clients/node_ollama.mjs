// The npm package ollama: whole, streamed, tools, structured output, embeddings, models, errors, abort.
import { Ollama } from 'ollama';

const [url, key, model] = process.argv.slice(2);
const client = new Ollama({ host: url, headers: { authorization: `Bearer ${key}` } });
const messages = [{ role: 'user', content: 'Name the capital of France in one sentence.' }];
const options = { temperature: 0, num_predict: 24 };

async function failure(work) {
  try {
    await work();
    return 'nothing went wrong';
  } catch (error) {
    return `${error.name} ${error.status_code} ${error.error ?? error.message}`;
  }
}

const whole = await client.chat({ model, messages, options });
let streamed = '';
let last = null;
for await (const part of await client.chat({ model, messages, options, stream: true })) {
  streamed += part.message.content;
  last = part;
}
const formatted = await client.chat({
  model,
  messages,
  options: { ...options, num_predict: 160 },
  format: {
    type: 'object',
    properties: { name: { type: 'string' }, capital: { type: 'boolean' } },
    required: ['name', 'capital'],
    additionalProperties: false,
  },
});
const generated = await client.generate({ model, prompt: messages[0].content, options });
const embedded = await client.embed({ model, input: ['one', 'two'] });
const stream = await client.generate({
  model,
  prompt: 'Tell me a long story.',
  options: { num_predict: 400 },
  stream: true,
});
let pieces = 0;
const aborted = await failure(async () => {
  for await (const _ of stream) {
    if (++pieces === 3) stream.abort();
  }
});

console.log(
  JSON.stringify({
    whole: whole.message.content,
    streamed,
    done_reason: last.done_reason,
    eval_count: last.eval_count,
    formatted: JSON.parse(formatted.message.content),
    generated: generated.response,
    embedded: embedded.embeddings.map((vector) => vector.length),
    listed: (await client.list()).models.map((entry) => entry.name),
    shown: (await client.show({ model })).details.family,
    running: (await client.ps()).models.map((entry) => entry.name),
    pieces,
    aborted,
    errors: {
      key: await failure(() => new Ollama({ host: url }).list()),
      model: await failure(() => client.chat({ model: 'missing', messages })),
    },
  }),
);
