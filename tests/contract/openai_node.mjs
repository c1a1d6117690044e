// The official client for Node against the place (see conftest.py) whose JSON is the first argument.
import assert from "node:assert/strict";
import OpenAI from "openai";

const place = JSON.parse(process.argv[2]);
const model = place.chat;
const at = (apiKey) => new OpenAI({ baseURL: place.url, apiKey, maxRetries: 0 });
const client = at(place.key);
const messages = [{ role: "user", content: "What is the capital of France?" }];

const ids = [];
for await (const each of client.models.list()) ids.push(each.id);
assert.deepEqual(ids, place.listed);
if (model) await chats();
if (place.embed) await embeds();
console.log("all right");

async function chats() {
  const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);

  let text = "";
  let usage = null;
  const stream = await client.chat.completions.create({
    model, messages, temperature: 0, stream: true, stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, answer.choices[0].message.content);
  assert.equal(usage.completion_tokens, answer.usage.completion_tokens);

  const stopped = await client.chat.completions.create({
    model, messages: [{ role: "user", content: "Count from 1 to 50." }], stream: true,
  });
  for await (const _ of stopped) break; // leaving the loop aborts the request

  const tool = {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather at a place",
      parameters: {
        type: "object",
        properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  };
  const called = await client.chat.completions.create({
    model, messages: [{ role: "user", content: "Use the tool for Rome." }], tools: [tool], tool_choice: "required", temperature: 0, max_tokens: 100,
  });
  assert.equal(called.choices[0].message.tool_calls[0].function.name, "get_weather");

  const completion = await client.completions.create({ model, prompt: ["Once", "The"], max_tokens: 3 });
  assert.deepEqual(completion.choices.map((choice) => choice.index), [0, 1]);

  if (place.unknown) {
    await assert.rejects(
      client.chat.completions.create({ model: "startr", messages }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && error.message.includes(place.unknown),
    );
  }
  if (place.keyed) {
    await assert.rejects(
      at("sk-wrong").chat.completions.create({ model, messages }),
      (error) => error instanceof OpenAI.AuthenticationError && /key/.test(error.message),
    );
  }
  await assert.rejects(
    client.chat.completions.create({ model, messages, temperature: 9 }),
    (error) => error instanceof OpenAI.BadRequestError && /temperature must be between/.test(error.message)
      && (place.name !== "plain" || error.param === "temperature"),
  );
}

async function embeds() {
  // By itself the client asks for base64 and decodes it.
  const texts = ["The cat sits on the mat.", "A kitten lies on a rug."];
  const packed = await client.embeddings.create({ model: place.embed, input: texts });
  const plain = await client.embeddings.create({ model: place.embed, input: texts, encoding_format: "float" });
  assert.deepEqual(packed.data.map((row) => row.index), [0, 1]);
  packed.data[0].embedding.forEach((number, at) => assert.ok(Math.abs(number - plain.data[0].embedding[at]) < 1e-7));
  assert.ok(packed.usage.prompt_tokens > 8);
}
