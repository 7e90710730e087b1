/** A token store in a file, for Node. On a phone, write one over the keychain or keystore instead. */

import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

import type { Pair, Store } from "./client.js";

export class FileStore implements Store {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async read(): Promise<Pair | undefined> {
    try {
      return JSON.parse(await readFile(this.#path, "utf8"));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  async write(pair: Pair): Promise<void> {
    const next = `${this.#path}.next`;
    const file = await open(next, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify(pair));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(next, this.#path);
    const folder = await open(dirname(this.#path), "r");
    await folder.sync().finally(() => folder.close());
  }

  async clear(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}
