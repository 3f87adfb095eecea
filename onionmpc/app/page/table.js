// @ts-check
// From the first click to the last link: tor starts, people come, and the parties connect.

import { download, h } from "./dom.js";
import { t } from "./texts.js";

/** @param {any} context */
export function leaveButton(context) {
  return h("p", { class: "row" },
    h("button", { type: "button", "data-testid": "leave", onclick: () => context.send({ intent: "leave" }) },
      t("leave")),
    h("span", { class: "quiet" }, t("leave.what")));
}

/** @param {any} context */
export function notes(context) {
  return context.watch((/** @type {any} */ state) => state.session?.notes ?? [], (/** @type {any} */ all) =>
    all.length > 0 && h("ul", { class: "quiet", "data-testid": "notes" },
      all.slice(-3).map((/** @type {any} */ note) => h("li", {}, t(note.key, note.values)))));
}

/** @returns {import("./screens.js").Screen} */
export function starting() {
  return {
    key: "starting",
    title: t("starting.title"),
    build: (_state, context) => [
      h("h1", {}, t("starting.title")),
      h("p", {}, t("starting.what")),
      context.watch((/** @type {any} */ state) => state.tor.percent, (/** @type {number} */ percent) =>
        h("progress", { max: 100, value: percent, "aria-label": t("starting.title") })),
      notes(context),
      leaveButton(context),
    ],
  };
}

/**
 * @param {any} session
 * @returns {import("./screens.js").Screen}
 */
export function gathering(session) {
  return {
    key: `gathering ${session.hosts}`,
    title: t("gathering.count", { came: session.came, wanted: session.parties_wanted }),
    build: (_state, context) => [
      h("h1", {}, t(session.hosts ? "gathering.host" : "gathering.join")),
      context.watch(
        (/** @type {any} */ state) => [state.session.came, state.session.parties_wanted],
        (/** @type {any} */ [came, wanted]) =>
          h("p", { "data-testid": "came" }, t("gathering.count", { came, wanted }))),
      session.hosts && h("p", {}, t("gathering.invite")),
      session.hosts && context.watch(
        (/** @type {any} */ state) => [state.session.seats, state.session.asks_about],
        (/** @type {any} */ [seats, asksAbout]) =>
          seats.map((/** @type {any} */ seat) => seatPanel(seat, asksAbout === seat.number, context))),
      notes(context),
      leaveButton(context),
    ],
  };
}

/**
 * @param {any} seat
 * @param {boolean} asks
 * @param {any} context
 */
function seatPanel(seat, asks, context) {
  const name = seat.name || t("seat.unnamed");
  const answer = (/** @type {boolean} */ admit) =>
    context.send({ intent: "admit", seat: seat.number, address: seat.holder, admit });
  return h("section", { class: "panel", "data-testid": `seat-${seat.number}` },
    h("h2", {}, t("seat", { seat: seat.number })),
    seat.tried_again && h("p", { class: "panel warn" }, t("seat.tried")),
    asks && [
      h("p", {}, t("seat.asks", { name })),
      h("p", { class: "address" }, seat.holder),
      h("div", { class: "choice" },
        h("button", { "data-testid": `refuse-${seat.number}`, onclick: () => answer(false) }, t("seat.refuse")),
        h("button", { "data-testid": `admit-${seat.number}`, onclick: () => answer(true) }, t("seat.admit"))),
    ],
    !asks && seat.admitted && h("p", {}, t("seat.here", { name }), " ", h("span", { class: "address" }, seat.holder)),
    seat.invitation !== "" && !seat.admitted && !asks && invitation(seat, context));
}

/**
 * @param {any} seat
 * @param {any} context
 */
function invitation(seat, context) {
  const id = `invitation-${seat.number}`;
  const copied = () => context.send({ intent: "copied", seat: seat.number });
  return [
    h("label", { for: id }, t(seat.copied ? "seat.copied" : "seat.send")),
    h("textarea", { id, readonly: true, rows: 3, "data-testid": id, spellcheck: "false" }, seat.invitation),
    h("p", { class: "row" },
      h("button", {
        "data-testid": `copy-${seat.number}`,
        onclick: async () => { await navigator.clipboard.writeText(seat.invitation); copied(); },
      }, t("seat.copy")),
      h("button", {
        "data-testid": `save-${seat.number}`,
        onclick: () => {
          download(`invitation-${seat.number}.onionmpc`, `${seat.invitation}\n`, "application/x-onionmpc");
          copied();
        },
      }, t("seat.save"))),
  ];
}

/** @returns {import("./screens.js").Screen} */
export function connecting() {
  return {
    key: "connecting",
    title: t("connecting.title"),
    build: (_state, context) => [
      h("h1", {}, t("connecting.title")),
      h("p", {}, t("connecting.what")),
      people(context),
      notes(context),
      leaveButton(context),
    ],
  };
}

/** @param {any} context */
export function people(context) {
  return context.watch((/** @type {any} */ state) => state.session.parties, (/** @type {any} */ parties) =>
    h("ul", { class: "people", "data-testid": "people-here" }, parties.map((/** @type {any} */ party) =>
      h("li", {},
        h("span", {}, party.is_you ? t("you") : party.name || t("party", { number: party.number })),
        !party.is_you && h("span", { class: "quiet" }, t(`presence.${party.presence}`)),
        h("span", { class: "address" }, party.address)))));
}
