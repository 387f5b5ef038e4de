// A host in small, on the TypeScript SDK: node client.mjs CONFIG CALLS ANSWER
//
// CONFIG: a file with one entry in `mcpServers`. CALLS: JSON, a list of {name, arguments}.
// ANSWER: what the person does when asked: approve, wrong (approves with a made-up fingerprint), decline, cancel,
// or none (the client cannot ask).
// Prints one JSON object: server, tools, results, prompts.
import { readFileSync } from "node:fs";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const [config, calls, answer] = process.argv.slice(2);
const { mcpServers } = JSON.parse(readFileSync(config, "utf8"));
const [entry] = Object.values(mcpServers);

const prompts = [];
const capabilities = answer === "none" ? {} : { elicitation: {} };
const client = new Client({ name: "test-host", version: "1.0.0" }, { capabilities });

function content({ message, requestedSchema }) {
  const typed = answer === "wrong" ? "0000-0000" : message.match(/^Fingerprint: (.+)$/m)[1];
  const filled = { decision: "approve_once" };
  return "fingerprint" in requestedSchema.properties ? { ...filled, fingerprint: typed } : filled;
}

if (answer !== "none") {
  client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
    prompts.push(params);
    if (answer === "decline" || answer === "cancel") {
      return { action: answer };
    }
    return { action: "accept", content: content(params) };
  });
}

await client.connect(new StdioClientTransport({ ...entry, env: { ...process.env, ...entry.env }, stderr: "inherit" }));
const { tools } = await client.listTools();
const results = [];
for (const call of JSON.parse(calls)) {
  results.push(await client.callTool(call));
}
process.stdout.write(JSON.stringify({ server: client.getServerVersion(), tools, results, prompts }));
await client.close();
