// @ts-check
// Which screen a state calls for. A session that runs comes first: nothing else can be done meanwhile.

import { home, hosting, joining } from "./start.js";
import { connecting, gathering, starting } from "./table.js";
import { consent, input, waiting } from "./consent.js";
import { computing, over, result } from "./outcome.js";

/**
 * @typedef {object} Screen
 * @property {string} key the screen is built anew when it changes
 * @property {string} title
 * @property {(state: any, context: any) => any} build
 */

/** @type {Record<string, (session: any) => Screen>} */
const STAGES = {
  starting, gathering, connecting, consent, input, waiting, computing, finishing: computing, result, over,
};

/**
 * @param {any} state
 * @param {string} hash
 * @returns {Screen}
 */
export function screenFor(state, hash) {
  if (state.session !== null) return STAGES[state.session.stage](state.session);
  const [, page, name] = hash.split("/");
  const program = state.programs.find((/** @type {any} */ each) => each.name === decodeURIComponent(name ?? ""));
  if (page === "host" && program !== undefined) return hosting(program);
  if (page === "join") return joining();
  return home();
}
