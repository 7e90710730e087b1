/**
 * `node main.js http://127.0.0.1:8080 tokens.json`, then a command a line: `sign-in EMAIL PASSWORD`, `code MFA_TOKEN
 * CODE`, `get PATH`, `sign-out`. They run side by side, as they would in an app.
 */

import { createInterface } from "node:readline";

import { Client, CodeRequired } from "./client.js";
import { FileStore } from "./file_store.js";

const [server, store] = process.argv.slice(2);
if (server === undefined || store === undefined) {
  console.error("usage: node main.js SERVER STORE");
  process.exit(2);
}
const client = new Client(server, new FileStore(store));

async function run(line: string): Promise<string> {
  const [, command, first = "", second = ""] = /^(\S*) ?(\S*) ?(.*)$/.exec(line) ?? [];
  switch (command) {
    case "sign-in":
      try {
        await client.signIn(first, second);
      } catch (error) {
        if (error instanceof CodeRequired) return `code? ${error.mfaToken}`;
        throw error;
      }
      return "signed in";
    case "code":
      await client.enterCode(first, second);
      return "signed in";
    case "sign-out":
      await client.signOut();
      return "signed out, as you wished";
    case "get": {
      const answer = await client.fetch(first);
      return `${answer.status} ${await answer.text()}`;
    }
    default:
      return "what? sign-in EMAIL PASSWORD, code MFA_TOKEN CODE, get PATH or sign-out";
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  run(line)
    .catch((error: Error) => `${error.name}${error.message && `: ${error.message}`}`)
    .then(console.log);
}
