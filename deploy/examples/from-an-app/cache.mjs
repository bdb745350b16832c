// A cache client in JavaScript for Node 18 or newer, without packages: time limits, retries that apply once,
// compare-and-set, fallback.
//
//   node cache.mjs add cart-7 book      append to a list that other processes append to as well
//   node cache.mjs count visits         count up exactly once, however often the request is sent
//   node cache.mjs read price-7         read, and go to the source when the cache can't answer

const ATTEMPT_MS = 1000; // one request; the sidecar is on this host, so a longer wait means trouble
const BUDGET_MS = 3000; // one operation with all its retries; shorter than what the user of the app waits for
const CAS_TRIES = 100; // reads and writes of one compare-and-set loop

/** The cache did not answer within the budget. A write may or may not have been applied. */
class Unavailable extends Error {}

class Cache {
  constructor(url, name) {
    this.base = `${url}/v1/caches/${name}/entries/`;
  }

  /** Sends until there is an answer that is not worth a retry; every attempt carries the same idempotency key. */
  async request(method, key, { body, headers = {}, suffix = "" } = {}) {
    const url = this.base + encodeURIComponent(key) + suffix;
    if (method !== "GET") headers = { ...headers, "Idempotency-Key": uuid7() };
    const ends = performance.now() + BUDGET_MS;
    for (let wait = 20; ; wait = Math.min(2 * wait, 500)) {
      let error;
      let after = 0;
      try {
        const answer = await fetch(url, { method, body, headers, signal: AbortSignal.timeout(ATTEMPT_MS) });
        const text = await answer.text();
        if (answer.status < 500 && answer.status !== 429) return { status: answer.status, headers: answer.headers, text };
        const problem = JSON.parse(text || "{}");
        error = new Unavailable(problem.detail ?? answer.statusText);
        if (!problem.retryable) throw Object.assign(error, { final: true });
        after = problem.retryAfterMs ?? 0;
      } catch (broken) {
        if (broken.final) throw broken;
        error = new Unavailable(String(broken.cause ?? broken)); // refused, reset, no answer in time
      }
      // Full jitter, so that many clients don't come back at one time.
      const pause = Math.max(after, Math.random() * wait);
      if (performance.now() + pause >= ends) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** The value and its version, or neither. */
  async get(key) {
    const answer = await this.request("GET", key);
    if (answer.status === 404) return {};
    expect(answer, 200);
    return { value: answer.text, version: answer.headers.get("ETag") };
  }

  /** Sets the key to change(value): decided at the key's primary, so no other writer's change is lost. */
  async update(key, change, ttl = "30m") {
    for (let i = 0; i < CAS_TRIES; i++) {
      const { value, version } = await this.get(key);
      const headers = version ? { "If-Match": version } : { "If-None-Match": "*" };
      const answer = await this.request("PUT", key, { body: change(value), headers, suffix: `?ttl=${ttl}` });
      if (answer.status === 412) continue; // another writer came first; read again
      return expect(answer, 201, 204);
    }
    throw new Error(`${key}: other writers were faster every time`);
  }

  async increment(key, by = 1) {
    const answer = await this.request("POST", key, { suffix: `/increment?by=${by}` });
    expect(answer, 200);
    return BigInt(answer.text);
  }

  /** Reads through: the app goes on without the cache, only slower. */
  async getOr(key, source) {
    try {
      const { value } = await this.get(key);
      if (value !== undefined) return value;
    } catch (why) {
      if (!(why instanceof Unavailable)) throw why;
      console.error(`without the cache: ${why.message}`);
      return source();
    }
    const value = await source();
    await this.request("PUT", key, { body: value, suffix: "?ttl=30s" }).catch((why) => {
      console.error(`not cached: ${why.message}`);
    });
    return value;
  }
}

function expect(answer, ...wanted) {
  if (!wanted.includes(answer.status)) throw new Error(`${answer.status}: ${answer.text}`);
}

/** RFC 9562, version 7: its time tells the cache how old a retry is. */
function uuid7() {
  const random = crypto.randomUUID();
  const time = Date.now().toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(15)}`;
}

const [command, key, item] = process.argv.slice(2);
const cache = new Cache(process.env.SIDEGRID_URL ?? "http://127.0.0.1:7080", process.env.CACHE ?? "default");
if (command === "add") {
  await cache.update(key, (value) => JSON.stringify([...JSON.parse(value ?? "[]"), item]));
} else if (command === "count") {
  console.log(String(await cache.increment(key)));
} else if (command === "read") {
  console.log(await cache.getOr(key, async () => "from the source"));
} else {
  console.error("usage: node cache.mjs add KEY ITEM | count KEY | read KEY");
  process.exitCode = 64;
}
