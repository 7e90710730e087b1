// The middleware as it is, in strict mode (RFC 9068), before a server that has what it asks Express for.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { auth } from "express-oauth2-jwt-bearer";
import { forged, given } from "./given.mjs";

const check = auth({
  issuer: given.issuer,
  jwksUri: `${given.url}/.well-known/jwks.json`,
  audience: given.audience,
  tokenSigningAlg: given.algorithm,
  strict: true,
  timeoutDuration: 60_000,
});

const api = createServer((request, response) => {
  const get = (name) => request.headers[name.toLowerCase()];
  Object.assign(request, { protocol: "http", originalUrl: request.url, query: {}, is: () => false, get });
  check(request, response, (error) => {
    response.statusCode = error ? error.status : 200;
    response.end(error ? String(error) : JSON.stringify(request.auth.payload));
  });
});
await new Promise((resolve) => api.listen(0, "127.0.0.1", resolve));

const ask = async (token) => {
  const url = `http://127.0.0.1:${api.address().port}/orders`;
  const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
  return [answer.status, await answer.text()];
};
try {
  for (const { token, user, roles } of given.tokens) {
    const [status, body] = await ask(token);
    assert.equal(status, 200, body);
    const payload = JSON.parse(body);
    assert.equal(payload.sub, user);
    assert.deepEqual(payload.roles, roles);
    assert.equal((await ask(forged(token)))[0], 401);
  }
  assert.equal((await ask(given.refresh_token))[0], 401);
} finally {
  api.close();
  api.closeAllConnections();
}
