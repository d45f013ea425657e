// Vercel's ai with @ai-sdk/openai-compatible: text, streams, objects, tools, embeddings, errors, abort.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany, generateText, Output, streamText, tool } from 'ai';
import { z } from 'zod';

const [url, key, model] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: 'inferflux',
  baseURL: `${url}/v1`,
  apiKey: key,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const asked = { model: provider(model), temperature: 0, maxOutputTokens: 24, maxRetries: 0 };
const prompt = 'Name the capital of France in one sentence.';
const weather = tool({ inputSchema: z.object({ city: z.string() }) });

async function failure(work) {
  try {
    await work();
    return 'nothing went wrong';
  } catch (error) {
    return `${error.name} ${error.statusCode}`;
  }
}

const whole = await generateText({ ...asked, prompt });
const stream = streamText({ ...asked, prompt });
let streamed = '';
for await (const piece of stream.textStream) streamed += piece;
const formatted = await generateText({
  ...asked,
  maxOutputTokens: 160,
  prompt,
  output: Output.object({ schema: z.object({ name: z.string(), capital: z.boolean() }) }),
});
const called = await generateText({
  ...asked,
  maxOutputTokens: 60,
  prompt: 'What is the weather in Paris?',
  tools: { get_weather: weather },
  toolChoice: { type: 'tool', toolName: 'get_weather' },
});
const calledStream = streamText({
  ...asked,
  maxOutputTokens: 60,
  prompt: 'What is the weather in Paris?',
  tools: { get_weather: weather },
  toolChoice: 'required',
});
const calls = await calledStream.toolCalls;
const embedded = await embedMany({
  model: provider.textEmbeddingModel(model),
  values: ['one', 'two'],
  maxRetries: 0,
});
const controller = new AbortController();
const long = streamText({
  ...asked,
  maxOutputTokens: 400,
  prompt: 'Tell me a long story.',
  abortSignal: controller.signal,
});
let pieces = 0;
for await (const _ of long.textStream) {
  if (++pieces === 3) controller.abort();
}
const wrong = createOpenAICompatible({ name: 'x', baseURL: `${url}/v1`, apiKey: 'wrong' });

console.log(
  JSON.stringify({
    whole: whole.text,
    finish: whole.finishReason,
    usage: [whole.usage.inputTokens, whole.usage.outputTokens],
    streamed,
    usage_streamed: (await stream.usage).outputTokens,
    formatted: formatted.output,
    called: called.toolCalls.map((call) => [call.toolName, call.input]),
    calls: calls.map((call) => [call.toolName, typeof call.input.city]),
    embedded: embedded.embeddings.map((vector) => vector.length),
    pieces,
    errors: {
      key: await failure(() => generateText({ ...asked, model: wrong(model), prompt })),
      model: await failure(() => generateText({ ...asked, model: provider('missing'), prompt })),
    },
  }),
);
