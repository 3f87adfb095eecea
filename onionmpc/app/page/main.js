// @ts-check
// Starts the page: signs in, reads states, and draws the screen that each calls for.

import { h, fill } from "./dom.js";
import { LinkLost, readStates, send, signIn } from "./link.js";
import { screenFor } from "./screens.js";
import { speak, t, seconds } from "./texts.js";

/** @type {any} */
let state = null;
let drawn = "";
/** @type {Array<() => void>} */
let watches = [];

const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** What a screen may use. */
const context = {
  /**
   * Draws a part of a screen again whenever what it shows changes; the rest stays as it is, with what is typed there.
   * @param {(state: any) => any} select
   * @param {(selected: any) => any} draw
   */
  watch(select, draw) {
    const place = h("div");
    let before = "";
    const update = () => {
      const selected = select(state);
      const now = JSON.stringify(selected ?? null);
      if (now !== before) fill(place, draw(selected));
      before = now;
    };
    watches.push(update);
    update();
    return place;
  },
  /**
   * Sends an intent; says so if it is refused.
   * @param {Record<string, any>} intent
   */
  async send(intent) {
    try {
      const refused = await send(intent);
      if (refused) announce(refused, true);
      return refused;
    } catch {
      throw lost();
    }
  },
};

/**
 * @param {string} words
 * @param {boolean} [urgent]
 */
function announce(words, urgent = false) {
  const place = document.getElementById(urgent ? "urgent" : "polite");
  if (place !== null) place.textContent = words;
}

function draw() {
  const screen = screenFor(state, location.hash);
  document.title = screen.title === "" ? "onionmpc" : `${screen.title} · onionmpc`;
  if (screen.key === drawn) {
    watches.forEach((update) => update());
    return;
  }
  watches = [];
  drawn = screen.key;
  fill(main, screen.build(state, context));
  const heading = main.querySelector("h1");
  if (heading !== null) {
    heading.tabIndex = -1;
    heading.focus();
    announce(heading.textContent ?? "");
  }
}

/** @param {any} tor */
function drawTor(tor) {
  const place = document.getElementById("tor");
  const words = tor.step === "bootstrap" || tor.step === "publish"
    ? t(`tor.${tor.step}`, { percent: tor.percent, for: seconds((Date.now() - tor.since) / 1000) })
    : t(`tor.${tor.step}`, { why: tor.detail });
  if (place !== null) place.textContent = words;
}

/** Draws the last screen: nothing is asked on it, since whoever answers now may be someone else. */
function lost() {
  watches = [];
  drawn = "lost";
  document.title = "onionmpc";
  fill(main, h("h1", { "data-testid": "lost" }, t("lost.title")), h("p", {}, t("lost.text")));
  announce(t("lost.title"), true);
  return new LinkLost();
}

async function start() {
  await speak(navigator.language, async (path) => (await fetch(`/page/${path}`)).json());
  try {
    await signIn();
    addEventListener("hashchange", () => { if (state !== null) draw(); });
    setInterval(() => { if (state !== null) drawTor(state.tor); }, 1000);
    await readStates((next) => {
      state = next;
      drawTor(state.tor);
      draw();
    });
  } catch {
    lost();
  }
}

start();
