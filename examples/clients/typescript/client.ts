/**
 * A client to copy: it keeps one person signed in, whatever becomes of requests and answers. The rules it follows,
 * and why each is there, are in docs/clients.md; ../rust/client.rs is the same in Rust. It needs nothing but `fetch`.
 */

/** How often a refresh that the caller waits for is tried. */
const ATTEMPTS = 6;
/** How long one request may take, in milliseconds. */
const TIMEOUT = 10_000;
/** The longest that the server may ask to wait between two attempts, in seconds; beyond that it is the caller's wait. */
const LONGEST_WAIT = 30;

/** There are no tokens (any more): ask for the password. */
export class SignedOut extends Error {
  override name = "signed out";
}

/** The password is right, and a code is asked for: `enterCode` takes it, with this, within five minutes. */
export class CodeRequired extends Error {
  override name = "code required";
  readonly mfaToken: string;

  constructor(mfaToken: string) {
    super("a code of the second factor is asked for");
    this.mfaToken = mfaToken;
  }
}

/** No answer, or none yet. Nothing is lost: call again later. */
export class Unavailable extends Error {
  override name = "unavailable";
  /** How many seconds the server asked to be left alone. */
  readonly retryAfter: number | undefined;

  constructor(reason: string, retryAfter?: number) {
    super(reason);
    this.retryAfter = retryAfter;
  }
}

/** An answer that will be the same next time. Nothing is lost. */
export class Refused extends Error {
  override name = "refused";
}

/** What is kept between runs. */
export interface Pair {
  accessToken: string;
  refreshToken: string;
  /** When to refresh, in milliseconds since 1970 by our own clock: a tenth before the access token ends. */
  refreshAt: number;
}

/** Where the newest pair is kept. What cannot be read must throw: that is not the same as an empty store. */
export interface Store {
  read(): Promise<Pair | undefined>;
  /** Resolves when the pair survives even a power cut; before, the old one must. */
  write(pair: Pair): Promise<void>;
  clear(): Promise<void>;
}

/** Does pieces of work one after the other. */
export type Lock = <T>(work: () => Promise<T>) => Promise<T>;

/** A lock for one process. For all tabs of a browser: `(work) => navigator.locks.request("tokens", work)`. */
export function oneAtATime(): Lock {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  };
}

/** One signed-in person. Make one for each store, and share it. */
export class Client {
  readonly #server: string;
  readonly #store: Store;
  readonly #lock: Lock;
  #asking = false;

  /** A client of the server at this address, with no slash at its end. */
  constructor(server: string, store: Store, lock: Lock = oneAtATime()) {
    this.#server = server;
    this.#store = store;
    this.#lock = lock;
  }

  /** Signs in, in the place of whoever was signed in. */
  async signIn(email: string, password: string): Promise<void> {
    const pair = await this.#ask("/v1/auth/login", { email, password });
    await this.#lock(() => this.#store.write(pair));
  }

  /** Signs in with a code, after `CodeRequired`. A code that is `Refused` can be followed by another. */
  async enterCode(mfaToken: string, code: string): Promise<void> {
    const pair = await this.#ask("/v1/auth/mfa", { mfa_token: mfaToken, code });
    await this.#lock(() => this.#store.write(pair));
  }

  /** Ends the session, then forgets the tokens. */
  async signOut(): Promise<void> {
    await this.#lock(async () => {
      const stored = await this.#store.read();
      if (stored === undefined) return;
      const answer = await this.#post("/v1/auth/logout", { refresh_token: stored.refreshToken });
      if (!answer.ok) throw new Unavailable(`${answer.status}`);
      await this.#store.clear();
    });
  }

  /** Sends a request with the access token, and once more with a new one if the server does not take it. */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const pair = await this.#pair();
    const answer = await this.#send(path, init, pair);
    if (!answer.headers.get("www-authenticate")?.includes('error="invalid_token"')) return answer;
    return this.#send(path, init, await this.#refresh(pair));
  }

  /** The stored pair, or the next one if it is about time. */
  async #pair(): Promise<Pair> {
    const stored = await this.#store.read();
    if (stored === undefined) throw new SignedOut();
    if (Date.now() < stored.refreshAt || this.#asking) return stored;
    // It is early: while somebody else is asking, or without an answer, the access token still serves.
    this.#asking = true;
    try {
      return await this.#lock(() => this.#exchange(stored));
    } catch (error) {
      if (error instanceof Unavailable) return stored;
      throw error;
    } finally {
      this.#asking = false;
    }
  }

  /** The next pair, however long it takes. */
  async #refresh(old: Pair): Promise<Pair> {
    for (let attempt = 1; attempt < ATTEMPTS; attempt++) {
      try {
        return await this.#lock(() => this.#exchange(old));
      } catch (error) {
        if (!(error instanceof Unavailable) || (error.retryAfter ?? 0) > LONGEST_WAIT) throw error;
        await pause(attempt, error.retryAfter);
      }
    }
    return this.#lock(() => this.#exchange(old));
  }

  /** Tries once to exchange a pair for the next, unless another has done so while this one waited for its turn. */
  async #exchange(old: Pair): Promise<Pair> {
    const stored = await this.#store.read();
    if (stored === undefined) throw new SignedOut();
    if (stored.refreshToken !== old.refreshToken) return stored;
    try {
      const pair = await this.#ask("/v1/auth/refresh", { refresh_token: stored.refreshToken });
      await this.#store.write(pair);
      this.#confirm(pair);
      return pair;
    } catch (error) {
      // Nothing but `invalid_grant` throws tokens away, and only those that it was said of.
      if (!(error instanceof SignedOut)) throw error;
      const newer = await this.#store.read();
      if (newer !== undefined && newer.refreshToken !== stored.refreshToken) return newer;
      await this.#store.clear();
      throw error;
    }
  }

  /**
   * Tells the server that the pair is safe, so that the token before it is worth nothing to a thief. Nobody waits for
   * it: if it does not arrive, nothing is wrong.
   */
  #confirm(pair: Pair): void {
    this.#send("/v1/auth/refresh/confirm", { method: "POST" }, pair).catch(() => undefined);
  }

  /** Asks for a pair, and sorts what is answered instead. */
  async #ask(path: string, body: object): Promise<Pair> {
    const answer = await this.#post(path, body);
    const text = await answer.text().catch(unavailable);
    const { code = "", mfa_token, access_token, refresh_token, expires_in } = members(text);
    const { status } = answer;
    if (status === 200 && access_token && refresh_token && expires_in !== undefined) {
      return { accessToken: access_token, refreshToken: refresh_token, refreshAt: Date.now() + expires_in * 900 };
    }
    const reason = `${status} ${code}`;
    if (status === 400 && code === "invalid_grant") throw new SignedOut();
    if (status === 401 && code === "mfa_required" && mfa_token) throw new CodeRequired(mfa_token);
    if (status >= 400 && status < 500 && ![408, 409, 429].includes(status)) throw new Refused(reason);
    throw new Unavailable(reason, Number(answer.headers.get("retry-after")) || undefined);
  }

  #post(path: string, body: object): Promise<Response> {
    const headers = { "content-type": "application/json" };
    return this.#send(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  #send(path: string, init: RequestInit, pair?: Pair): Promise<Response> {
    const headers = new Headers(init.headers);
    if (pair) headers.set("authorization", `Bearer ${pair.accessToken}`);
    const signal = AbortSignal.timeout(TIMEOUT);
    return fetch(this.#server + path, { redirect: "manual", signal, ...init, headers }).catch(unavailable);
  }
}

/** What is read of an answer: nothing where it is not ours but, say, the log-in page of a hotel. */
function members(text: string): {
  code?: string;
  mfa_token?: string;
  access_token?: string;
  refresh_token?: string;
  expires_in?: number;
} {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** At least what the server asks for, else longer each time; and a random part, so that clients do not come in step. */
function pause(attempt: number, retryAfter?: number): Promise<void> {
  const step = 100 * 2 ** Math.min(attempt, 6);
  const least = retryAfter === undefined ? step : retryAfter * 1000;
  return new Promise((resolve) => setTimeout(resolve, least + Math.random() * step));
}

function unavailable(error: unknown): never {
  throw new Unavailable(String(error));
}
