import assert from "node:assert/strict";
import { importSPKI, jwtVerify } from "jose";
import jwksClient from "jwks-rsa";
import { given } from "./given.mjs";

const client = jwksClient({ jwksUri: `${given.url}/.well-known/jwks.json`, timeout: 60_000 });

for (const { token, user } of given.tokens) {
  const { kid } = JSON.parse(Buffer.from(token.split(".")[0], "base64url"));
  const key = await client.getSigningKey(kid);
  const publicKey = await importSPKI(key.getPublicKey(), given.algorithm);
  const { payload } = await jwtVerify(token, publicKey, { issuer: given.issuer, audience: given.audience });
  assert.equal(payload.sub, user);
}
await assert.rejects(client.getSigningKey("unknown"), { name: "SigningKeyNotFoundError" });
