// axios says what the type of a body is that it does not send.
import assert from "node:assert/strict";
import axios from "axios";
import { given } from "./given.mjs";

const url = (path) => `${given.url}/v1/${path}`;
const bearer = (token) => ({ authorization: `Bearer ${token}` });
const problem = async (request) => {
  try {
    await request;
  } catch (error) {
    return error.response;
  }
  throw new Error("no error");
};

for (const adapter of ["http", "fetch"]) {
  const nothings = [[], [undefined], [null], [""]];
  for (const nothing of nothings) {
    const client = axios.create({ adapter, timeout: 60_000 });
    const post = (path, config) => client.post(url(path), ...nothing, ...(nothing.length ? [] : [undefined]), config);
    const what = `${adapter} ${JSON.stringify(nothing)}`;
    const form = { "content-type": "application/x-www-form-urlencoded" };

    const { data: first } = await client.post(url("auth/login"), given.credentials);
    const cookie = { cookie: `refreshToken=${first.refresh_token}` };
    const refreshed = await post("auth/refresh", { headers: { ...cookie, ...form } });
    assert.equal(refreshed.status, 200, what);
    const { access_token: access, refresh_token: refresh } = refreshed.data;
    assert.equal((await post("auth/refresh/confirm", { headers: { ...bearer(access), ...form } })).status, 204, what);
    assert.equal((await client.get(url("users/me"), { headers: bearer(access) })).data.email, given.credentials.email);
    assert.equal((await post("auth/logout", { headers: { ...bearer(access), ...form } })).status, 204, what);

    const over = await problem(client.get(url("users/me"), { headers: bearer(access) }));
    assert.equal(over.status, 401, what);
    assert.equal(over.data.code, "invalid_token", what);
    assert.match(over.headers["www-authenticate"], /^Bearer realm="countersign", error="invalid_token"$/, what);
    const ended = await problem(client.post(url("auth/refresh"), { refresh_token: refresh }));
    assert.deepEqual([ended.status, ended.data.code, ended.data.reason], [400, "invalid_grant", "revoked"], what);
    const missing = await problem(post("auth/login", { headers: form }));
    assert.deepEqual([missing.status, missing.data.errors[0].field], [400, "email"], what);
  }
  // As people write it.
  const { data: pair } = await axios.post(url("auth/login"), given.credentials, { adapter });
  const client = axios.create({ adapter, headers: { common: bearer(pair.access_token) } });
  assert.equal((await client.post(url("auth/refresh/confirm"))).status, 204);
  assert.equal((await client.post(url("auth/logout"))).status, 204);
  assert.equal((await problem(client.get(url("users/me")))).status, 401);
}
