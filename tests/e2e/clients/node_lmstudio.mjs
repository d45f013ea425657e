// The npm package @lmstudio/sdk: lists, loads, answers, streams, structured output, embeds, counts, cancels.
import { LMStudioClient } from '@lmstudio/sdk';

const [url, key, model] = process.argv.slice(2);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const options = { baseUrl: url.replace('http', 'ws'), logger: quiet };
const client = new LMStudioClient({ ...options, clientIdentifier: 'tests', clientPasskey: key });
const question = 'Name the capital of France in one sentence.';
const limits = { temperature: 0, maxTokens: 24 };

async function failure(work) {
  try {
    await work();
    return 'nothing went wrong';
  } catch (error) {
    return String(error.message ?? error);
  }
}

const llm = await client.llm.model(model);
const whole = await llm.respond(question, limits);
let streamed = '';
const prediction = llm.respond([{ role: 'user', content: question }], limits);
for await (const fragment of prediction) streamed += fragment.content;
const stats = (await prediction.result()).stats;
const completed = await llm.complete('The capital of France is', { ...limits, maxTokens: 4 });
const formatted = await llm.respond(question, {
  ...limits,
  maxTokens: 160,
  structured: {
    type: 'json',
    jsonSchema: {
      type: 'object',
      properties: { name: { type: 'string' } },
      required: ['name'],
      additionalProperties: false,
    },
  },
});
const long = llm.respond('Tell me a long story.', { maxTokens: 400 });
let pieces = 0;
for await (const _ of long) {
  if (++pieces === 3) await long.cancel();
}
const cancelled = (await long.result()).stats.stopReason;

console.log(
  JSON.stringify({
    whole: whole.content,
    streamed,
    stop_reason: stats.stopReason,
    predicted: stats.predictedTokensCount,
    completed: completed.content,
    formatted: JSON.parse(formatted.content),
    tokens: (await llm.tokenize('one two three')).length,
    counted: await llm.countTokens('one two three'),
    downloaded: (await client.system.listDownloadedModels()).map((entry) => entry.modelKey),
    loaded: (await client.llm.listLoaded()).map((entry) => entry.identifier),
    context: await llm.getContextLength(),
    pieces,
    cancelled,
    errors: {
      model: await failure(() => client.llm.model('missing')),
      key: await failure(() =>
        new LMStudioClient({ ...options, clientIdentifier: 'x', clientPasskey: 'wrong' }).llm.listLoaded(),
      ),
    },
  }),
);
process.exit(0);
