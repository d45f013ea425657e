// The npm package openai: whole, streamed, tools, structured output, embeddings, Responses, errors, abort.
import OpenAI from 'openai';

const [url, key, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: 'user', content: 'Name the capital of France in one sentence.' }];
const asked = { model, messages, temperature: 0, max_tokens: 24 };
const tool = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const city = {
  type: 'object',
  properties: { name: { type: 'string' }, capital: { type: 'boolean' } },
  required: ['name', 'capital'],
  additionalProperties: false,
};

async function failure(work) {
  try {
    await work();
    return 'nothing went wrong';
  } catch (error) {
    return `${error.constructor.name} ${error.status} ${error.code}`;
  }
}

const whole = await client.chat.completions.create(asked);
let streamed = '';
let usage = null;
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? '';
  usage = chunk.usage ?? usage;
}
const helper = client.chat.completions.stream({
  ...asked,
  max_tokens: 60,
  tools: [tool],
  tool_choice: 'required',
  parallel_tool_calls: false,
});
const called = (await helper.finalChatCompletion()).choices[0];
const formatted = await client.chat.completions.create({
  ...asked,
  max_tokens: 160,
  response_format: { type: 'json_schema', json_schema: { name: 'city', strict: true, schema: city } },
});
const embedded = await client.embeddings.create({ model, input: ['one', 'two'] });
const response = await client.responses.create({ model, input: 'Hi', max_output_tokens: 16 });
const events = [];
for await (const event of await client.responses.create({
  model,
  input: 'Hi',
  max_output_tokens: 16,
  stream: true,
})) {
  events.push(event.type);
}
const long = await client.chat.completions.create({ ...asked, max_tokens: 400, stream: true });
let pieces = 0;
for await (const _ of long) {
  if (++pieces === 3) long.controller.abort();
}

console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    streamed,
    usage,
    called: {
      name: called.message.tool_calls[0].function.name,
      arguments: JSON.parse(called.message.tool_calls[0].function.arguments),
      finish_reason: called.finish_reason,
    },
    formatted: JSON.parse(formatted.choices[0].message.content),
    embedded: embedded.data.map((entry) => entry.embedding.length),
    response: response.output_text,
    events,
    pieces,
    errors: {
      key: await failure(() =>
        new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 }).models.list(),
      ),
      model: await failure(() => client.chat.completions.create({ ...asked, model: 'missing' })),
      request: await failure(() => client.chat.completions.create({ ...asked, temperature: 9 })),
    },
    models: (await client.models.list()).data.map((entry) => entry.id),
  }),
);
