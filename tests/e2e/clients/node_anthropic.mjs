// The npm package @anthropic-ai/sdk: whole, streamed, tools, counted tokens, errors, abort.
import Anthropic from '@anthropic-ai/sdk';

const [url, key, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const messages = [{ role: 'user', content: 'Name the capital of France in one sentence.' }];
const asked = { model, messages, temperature: 0, max_tokens: 24 };
const tool = {
  name: 'get_weather',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};

async function failure(work) {
  try {
    await work();
    return 'nothing went wrong';
  } catch (error) {
    return `${error.constructor.name} ${error.status}`;
  }
}

const whole = await client.messages.create(asked);
const stream = client.messages.stream(asked);
const events = new Set();
for await (const event of stream) events.add(event.type);
const final = await stream.finalMessage();
const called = await client.messages.create({
  ...asked,
  max_tokens: 60,
  tools: [tool],
  tool_choice: { type: 'tool', name: 'get_weather', disable_parallel_tool_use: true },
});
const counted = await client.messages.countTokens({ model, messages });
const long = client.messages.stream({ ...asked, max_tokens: 400 });
let pieces = 0;
const aborted = await failure(async () => {
  for await (const _ of long) {
    if (++pieces === 4) long.abort();
  }
});

console.log(
  JSON.stringify({
    whole: whole.content[0].text,
    stop_reason: whole.stop_reason,
    usage: whole.usage,
    streamed: final.content[0].text,
    events: [...events].sort(),
    called: { ...called.content[0], stop_reason: called.stop_reason },
    counted: counted.input_tokens,
    pieces,
    aborted,
    errors: {
      key: await failure(() =>
        new Anthropic({ baseURL: url, apiKey: 'wrong', maxRetries: 0 }).messages.create(asked),
      ),
      model: await failure(() => client.messages.create({ ...asked, model: 'missing' })),
      request: await failure(() => client.messages.create({ ...asked, max_tokens: 0 })),
    },
  }),
);
