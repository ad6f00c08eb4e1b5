// Checks a webhook from Tieline. Node's own crypto only.
//
// Hand in the bytes of the body exactly as they came, as a Buffer: not parsed, not decoded, not trimmed. With Express that is
// `express.raw({ type: "application/json" })`, and `request.body`.

import { createHmac, timingSafeEqual } from "node:crypto";
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** How many seconds a webhook's time may be off: an old one may have been recorded and sent again by somebody else. */
const TOLERANCE = 5 * 60;

function isSame(one, other) {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/**
 * Whether a body carries a Standard Webhooks signature by one of your secrets, and is fresh.
 * @param {string[]} secrets "whsec_…" each; two while you exchange one
 * @param {Record<string, string>} headers by their names in lower case
 * @param {Buffer} body anything else, such as what a parser made of it, is not signed
 * @param {number} [now] seconds since 1970
 */
export function verifyStandard(secrets, headers, body, now = Date.now() / 1000) {
  if (!(body instanceof Uint8Array)) return false;
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^[0-9]+$/.test(timestamp) || Math.abs(now - Number(timestamp)) > TOLERANCE) return false;
  // An empty key, of a setting left empty, would let anybody sign.
  const keys = secrets.map((secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64")).filter((key) => key.length > 0);
  const expected = keys.map(
    (key) => "v1," + createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64"),
  );
  // Other versions than v1 match nothing.
  const given = (headers["webhook-signature"] ?? "").split(" ");
  return given.some((one) => expected.some((other) => isSame(one, other)));
}

/**
 * Whether X-Liveperson-Signature, "sha1=…" or "sha256=…", is that of a body under an application's client secret.
 * @param {string} clientSecret
 * @param {string | undefined} signature nothing, if there is no such header
 * @param {Buffer} body
 */
export function verifyVendor(clientSecret, signature, body) {
  if (!signature || !(body instanceof Uint8Array)) return false;
  const name = signature.split("=", 1)[0];
  if ((name !== "sha1" && name !== "sha256") || !clientSecret) return false;
  return isSame(signature, `${name}=${createHmac(name, clientSecret).update(body).digest("base64")}`);
}

// For tests: one JSON object a line, and one line of verdicts for each.
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { createInterface } = await import("node:readline");
  for await (const line of createInterface({ input: process.stdin })) {
    const one = JSON.parse(line);
    const body = Buffer.from(one.body, "base64");
    const standard = verifyStandard(one.secrets, one.headers, body, one.now);
    const vendor = verifyVendor(one.client_secret, one.headers["x-liveperson-signature"], body);
    console.log(standard ? "ok" : "no", vendor ? "ok" : "no");
  }
}
