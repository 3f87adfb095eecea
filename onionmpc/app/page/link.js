// @ts-check
// Speaks with the process that owns the session: exchanges the start token, reads states, sends intents.

const KEPT = "onionmpc";

/** What ends the page's link for good. The page then says so, and asks for nothing any more. */
export class LinkLost extends Error {}

/**
 * Takes the start token out of the address, and exchanges it. After a reload the page has a session already.
 * @returns {Promise<void>}
 */
export async function signIn() {
  const start = new URLSearchParams(location.hash.slice(1)).get("start");
  if (start === null) {
    if (sessionStorage.getItem(KEPT) === null) throw new LinkLost();
    return;
  }
  // Not in the history: whoever goes back there would use it a second time.
  history.replaceState(null, "", location.pathname);
  const answer = await fetch("/api/start", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ start }),
  });
  if (!answer.ok) throw new LinkLost();
  sessionStorage.setItem(KEPT, await answer.text());
}

/** @returns {{token: string, proof_key: string}} */
function session() {
  const kept = sessionStorage.getItem(KEPT);
  if (kept === null) throw new LinkLost();
  return JSON.parse(kept);
}

/**
 * Reads states until the link is lost.
 * @param {(state: any) => void} show is called with each state
 * @returns {Promise<never>}
 */
export async function readStates(show) {
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  const answer = await fetch("/api/state", {
    headers: { authorization: `Bearer ${session().token}`, "onionmpc-nonce": nonce },
  });
  if (!answer.ok || answer.body === null) throw new LinkLost();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let proved = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new LinkLost();
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const said = JSON.parse(line);
      // Another program can take the port once the app has ended. It does not have the key, so nothing of it is shown.
      if (!proved && said.proof !== await proof(nonce)) throw new LinkLost();
      proved = true;
      if (said.end !== undefined) throw new LinkLost();
      if (said.state !== undefined) show(said.state);
    }
  }
}

/** @param {string} nonce */
async function proof(nonce) {
  const encode = new TextEncoder();
  const key = await crypto.subtle.importKey(
    "raw", encode.encode(session().proof_key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return hex(new Uint8Array(await crypto.subtle.sign("HMAC", key, encode.encode(nonce))));
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Record<string, any>} intent
 * @returns {Promise<string>} "" if it was taken, or why it was not
 */
export async function send(intent) {
  const answer = await fetch("/api/intent", {
    method: "POST",
    headers: { authorization: `Bearer ${session().token}`, "content-type": "application/json" },
    body: JSON.stringify(intent),
  });
  if (answer.ok) return "";
  if (answer.status !== 422) throw new LinkLost();
  const { error, hint } = await answer.json();
  return hint === "" ? error : `${error}: ${hint}`;
}
