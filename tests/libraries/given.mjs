// What the test says: where the server is, what its tokens promise, and one token of each kind.

export const given = JSON.parse(process.env.GIVEN);

/** Fails unless `attempt` does. */
export async function refuses(attempt, what) {
  try {
    await attempt();
  } catch {
    return;
  }
  throw new Error(`${what} was accepted`);
}

/** The token with another subject, under the same signature. */
export function forged(token) {
  const [header, payload, signature] = token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url"));
  claims.sub = "01890a5d-ac96-774b-bcce-b302099a8057";
  return [header, Buffer.from(JSON.stringify(claims)).toString("base64url"), signature].join(".");
}
