import OpenAI from 'openai';

const openai = new OpenAI({
    baseURL: 'http://localhost:8000/v1',
    apiKey: 'not-needed',
});

// Chat completion
const completion = await openai.chat.completions.create({
    model: 'medium',
    messages: [{ role: 'user', content: 'Hello!' }],
});
console.log(completion.choices[0].message.content);

// Embeddings
const embedding = await openai.embeddings.create({
    model: 'embedding',
    input: 'Your text here',
});
console.log(embedding.data[0].embedding);
