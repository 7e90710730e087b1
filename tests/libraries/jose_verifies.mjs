import assert from "node:assert/strict";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { forged, given, refuses } from "./given.mjs";

const keys = createRemoteJWKSet(new URL(`${given.url}/.well-known/jwks.json`));
const options = { issuer: given.issuer, audience: given.audience, algorithms: [given.algorithm], typ: "at+jwt" };

for (const { token, user, roles } of given.tokens) {
  const { payload } = await jwtVerify(token, keys, options);
  assert.equal(payload.sub, user);
  assert.deepEqual(payload.roles, roles);
  await refuses(() => jwtVerify(forged(token), keys, options), "a forged token");
  await refuses(() => jwtVerify(token, keys, { ...options, audience: "https://elsewhere.example" }), "a foreign audience");
}
await refuses(() => jwtVerify(given.refresh_token, keys, options), "a refresh token");
